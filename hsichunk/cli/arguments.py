"""Define the parameters of the commands: those of the table of options, and the few that are no options of a run."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from typer.models import OptionInfo

from hsichunk.run import option as groups
from hsichunk.run.option import Option
from hsichunk.run.option_kinds import dashed
from hsichunk.run.options import TABLE

Words: TypeAlias = dict[str, bool | str | list[str]]
"""options by name, as they are typed on the command line; those that are not given are missing"""


def option(
    *names: str, metavar: str | None, text: str, panel: str | None = None, choices: Sequence[str] = ()
) -> OptionInfo:
    """Return an option of Typer whose help, `text`, says the default in words; a shell completes its choices."""
    info: OptionInfo = typer.Option(
        *names,
        metavar=metavar,
        help=text,
        show_default=False,
        rich_help_panel=panel,
        autocompletion=_completing(choices) if choices else None,
    )
    return info


def _completing(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a function that offers choices for a word, or for the last of several words with commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        return [f"{before}{comma}{name}" for name in dashed(choices) if name.startswith(last)]

    return complete


Config = Annotated[
    Path | None,
    option(metavar="FILE", text="YAML file of options, as 'k: 4'; options on the command line replace them."),
]
DryRun = Annotated[
    bool,
    option(
        "--dry-run", metavar=None, text="Print what would be done, and in what memory; do nothing.", panel=groups.WORK
    ),
]
WriteConfig = Annotated[
    Path | None,
    option(
        metavar="FILE", text="Write these options to a YAML file for --config, each with its help; do nothing else."
    ),
]
Report = Annotated[bool, option("--report", metavar=None, text="Write DIR/report.html, too.", panel=groups.WORK)]
Debug = Annotated[bool, option("--debug", metavar=None, text="Show the traceback of an error.", panel=groups.WORK)]


def takes_options(command: str, *, tiles_required: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command the options that the table names for it.

    The first parameter of the function gets those that the user gives, as `Words`; the others stay its own parameters.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        rows = [row for row in TABLE.values() if command in row.commands]
        _, *own = inspect.signature(function, eval_str=True).parameters.values()
        parameters = [_parameter(row, row.positional and tiles_required) for row in rows]
        parameters += [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]

        @functools.wraps(function)
        def with_options(**values: Any) -> None:
            typed = {row.name: values.pop(row.name) for row in rows}
            words: Words = {name: value for name, value in typed.items() if value not in (None, False, [])}
            function(words, **values)

        # Typer reads parameters from here
        vars(with_options)["__signature__"] = inspect.Signature(parameters)
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate


def _parameter(row: Option[Any], required: bool) -> inspect.Parameter:
    """Return a row as a parameter that Typer understands; its default is None, or False for a switch."""
    switch = row.kind.typed is bool
    if row.positional:
        info = typer.Argument(metavar=row.shown, help=row.help, show_default=False)
    else:
        panel = None if row.group == groups.OUTPUT else row.group
        info = option(row.flag, metavar=row.shown, text=row.help, panel=panel, choices=row.choices)
    default = False if switch else None
    return inspect.Parameter(
        row.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else default,
        annotation=Annotated[row.kind.typed if switch or required else row.kind.typed | None, info],
    )
