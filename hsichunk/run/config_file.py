"""Options in a YAML file: read for `run --config`, written by `run --write-config` with what each means."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hsichunk.atomic_files import replacing
from hsichunk.errors import OptionError, one_line
from hsichunk.run.options import TABLE, Options, check_names


def read(path: str | os.PathLike[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options from a YAML file under those given on the command line. Raises OptionError for what is not one."""
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
    options = {str(name).replace("-", "_"): value for name, value in loaded.items()}
    check_names(options, f"{where}: ")
    return {**options, **given}


def write(options: Options, path: Path) -> None:
    """Writes every option with what it means above it. Raises HsiError where `path` cannot be written."""
    lines = ["# Options of hsichunk run: hsichunk run --config THIS_FILE; those given on the command line win.", ""]
    for name, value in options.as_dict().items():
        if TABLE[name].asked_each_time:
            continue
        lines += [f"# {line}" for line in textwrap.wrap(TABLE[name].help, 110)]
        # JSON is YAML, on one line
        lines += [f"{name.replace('_', '-')}: {json.dumps(value)}", ""]
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")
