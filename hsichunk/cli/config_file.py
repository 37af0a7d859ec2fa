"""`run --write-config`: the options of a run as a YAML file that `--config` takes, each with its help."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import typer

from hsichunk.atomic_files import replacing
from hsichunk.cli.app import app
from hsichunk.run.options import Options

# what has no place on the command line
_OTHERS = {
    "keep": "Ranges of wavelengths (nm) outside which bands are dropped, as [[400, 1300], [1500, 1700]].",
    "drop": "Ranges of wavelengths (nm) to drop beside the windows named in the file.",
    "drop_last": "How many bands to drop at the end; null for 10 of NEON's tiles, which are noise, none of images.",
    "maxit": "Sweeps of N-FINDR at most, null for 3 k; rounds of FIPPI at most.",
}


def write(options: Options, path: Path) -> None:
    """Writes every option with what it means above it. Raises HsiError where `path` cannot be written."""
    helps = {**_helps(), **_OTHERS}
    lines = ["# Options of hsichunk run: hsichunk run --config THIS_FILE; those given on the command line win.", ""]
    for name, value in options.as_dict().items():
        if name == "overwrite":
            continue  # asked for each time
        lines += [f"# {line}" for line in textwrap.wrap(helps[name], 110)]
        # JSON is YAML, on one line
        lines += [f"{name.replace('_', '-')}: {json.dumps(value)}", ""]
    with replacing(path) as part:
        part.write_text("\n".join(lines), encoding="utf-8")


def _helps() -> dict[str, str]:
    group: Any = typer.main.get_command(app)
    return {str(parameter.name): str(parameter.help) for parameter in group.commands["run"].params}
