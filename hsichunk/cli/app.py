"""The application of the command line. Imports only what --help needs; each command imports the rest when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    help="Endmembers, abundance maps and class maps from imaging-spectroscopy tiles that do not fit in memory.",
    epilog="Start with **hsichunk demo**, then **hsichunk run tile.h5 --out results**; -h after a command shows its "
    "help. Exit status: 0 done, 1 failed, 2 bad arguments.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(print_it: bool) -> None:
    if print_it:
        from hsichunk.version import __version__

        typer.echo(f"hsichunk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass
