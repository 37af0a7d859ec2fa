"""The record of one option: all that the command line, the config file, the fingerprint and the docs say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass
from typing import Any, Final, Literal, ParamSpec

from hsichunk.run.option_kinds import Kind

P = ParamSpec("P")

# commands
RUN: Final = "run"
ENDMEMBERS: Final = "endmembers"
COUNT: Final = "count"
INFO: Final = "info"
SEARCHES: Final = (RUN, ENDMEMBERS)
READS: Final = (RUN, ENDMEMBERS, COUNT)
ALL: Final = (RUN, ENDMEMBERS, COUNT, INFO)

# groups of the help, in its order
OUTPUT: Final = "Options"
SEARCH: Final = "Endmembers"
ABUNDANCES: Final = "Abundances"
CLASSES: Final = "Scores and classes"
BANDS: Final = "Bands"
INPUT: Final = "Tiles and pixels"
WORK: Final = "How it runs"


@dataclass(frozen=True)
class Option:
    """A row of the table of options; its name and its type are those of a field of `Options`."""

    default: Any
    """MISSING for what must be given; a function that makes it"""
    kind: Kind
    explanation: str
    """one sentence, without the default, which `help` adds; a choice says itself which is the default"""
    group: str = OUTPUT
    commands: tuple[str, ...] = (RUN,)
    """those that take it; a config file takes all"""
    rule: tuple[Callable[[Any], bool], str] | None = None
    """what holds of every value but None, and the words for it in an error"""
    choices: tuple[str, ...] = ()
    """the names that it may be, or be a list of"""
    metavar: str | None = None
    """where the kind's says too little"""
    default_text: str = ""
    """where the default is no value"""
    changes: Literal["results", "inputs", "work"] = "results"
    """results: part of the fingerprint; inputs: the fingerprint holds what lies in the file; work: how it is done"""
    asked_each_time: bool = False
    """no part of what repeats a run"""
    positional: bool = False
    name: str = ""

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        if self.positional:
            return self.shown or self.name
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name.replace('_', '-')}"

    @property
    def shown(self) -> str | None:
        """What stands for the value in the help; None for a switch."""
        return self.metavar or self.kind.metavar

    @property
    def help(self) -> str:
        """The explanation with the default, where it is no choice."""
        told = isinstance(self.default, str) or self.default_shown in ("none", "off", "")
        return self.explanation if told else f"{self.explanation.removesuffix('.')} ({self.default_shown})."

    @property
    def default_shown(self) -> str:
        """The default in words; "" for what must be given."""
        if self.default_text or self.default is MISSING:
            return self.default_text
        if self.default is False:
            return "off"
        return "none" if self.default is None or self.default == () else self.kind.write(self.default)

    def value(self) -> Any:
        """The default; MISSING where there is none."""
        return self.default() if callable(self.default) else self.default

    def read(self, value: Any) -> Any:
        """The value of plain values of a file or of words of the command line. Raises OptionError."""
        return None if value is None and self.default is None else self.kind.read(self.name, value)

    def words(self, value: Any) -> list[str]:
        """The value as words of the command line, which `read` takes."""
        if value is None or value is False:
            return []
        if value is True:
            return [self.flag]
        if self.kind.repeated:
            return [word for each in value for word in ([each] if self.positional else [self.flag, each])]
        return [self.flag, self.kind.write(value)]


def _of_any_type(make: Callable[P, Option]) -> Callable[P, Any]:
    return make


option = _of_any_type(Option)
"""Option, for the fields of `Options`: these hold values of their own types once the table is made."""
