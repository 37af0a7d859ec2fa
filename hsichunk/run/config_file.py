"""Read options from a YAML file, for `run --config`, and write them with their help, for `run --write-config`."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path

from hsichunk.atomic_files import replacing
from hsichunk.errors import OptionError, one_line
from hsichunk.run.option_kinds import RawValue
from hsichunk.run.options import TABLE, Options, check_names


def read(path: str | os.PathLike[str], words: Mapping[str, RawValue]) -> dict[str, RawValue]:
    """Return the options of a YAML file by name; those of the command line, `words`, replace them.

    Raises OptionError where the file cannot be read, is not YAML, or holds anything but options.
    """
    import yaml

    where = os.fspath(path)
    try:
        with open(path, encoding="utf-8") as file:
            loaded = yaml.safe_load(file)
    except OSError as error:
        raise OptionError(f"{where}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OptionError(f"{where}: is no YAML ({one_line(error)})") from error
    if loaded is None:
        loaded = {}
    if not isinstance(loaded, dict):
        raise OptionError(f"{where}: holds {type(loaded).__name__}; expected options, as 'k: 4'")
    options: dict[str, RawValue] = {str(name).replace("-", "_"): value for name, value in loaded.items()}
    check_names(options, f"{where}: ")
    return {**options, **words}


def write(options: Options, path: Path) -> None:
    """Write every option with its help above it. Raises HsiError where `path` cannot be written."""
    lines = ["# Options of hsichunk run: hsichunk run --config THIS_FILE; those given on the command line win.", ""]
    for name, value in options.as_dict().items():
        if TABLE[name].asked_each_time:
            continue
        lines += [f"# {line}" for line in textwrap.wrap(TABLE[name].help, 110)]
        # JSON is YAML, and takes one line
        lines += [f"{name.replace('_', '-')}: {json.dumps(value)}", ""]
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
