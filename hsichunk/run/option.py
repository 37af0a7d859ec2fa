"""The record of one option: all that the command line, the config file, the fingerprint and the docs say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Literal, ParamSpec, TypeAlias, TypeVar

from hsichunk.run.option_kinds import Kind, RawValue

if TYPE_CHECKING:
    from dataclasses import _MISSING_TYPE

P = ParamSpec("P")
T = TypeVar("T")
Rule: TypeAlias = tuple[Callable[[T], bool], str]
"""what holds of every value but None, and the words for it in an error"""

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
class Option(Generic[T]):
    """A row of the table of options; its name and its type are those of a field of `Options`."""

    default: T | Callable[[], T] | _MISSING_TYPE | None
    """the default, or a function that returns it; MISSING for an option that must be given"""
    kind: Kind[T]
    explanation: str
    """one sentence, without the default, which `help` adds; where there are choices it names the default itself"""
    group: str = OUTPUT
    commands: tuple[str, ...] = (RUN,)
    """commands that take the option; a config file takes all options"""
    rule: Rule[T] | None = None
    choices: tuple[str, ...] = ()
    """names of which the value is one, or a list of some"""
    metavar: str | None = None
    """what stands for the value in the help, where that of the kind says too little"""
    default_text: str = ""
    """what the help says of the default, where the value says too little"""
    changes: Literal["results", "inputs", "work"] = "results"
    """results: part of the fingerprint; inputs: the fingerprint holds what lies in the file; work: how it is done"""
    asked_each_time: bool = False
    """whether the words and the file that repeat a run leave it out"""
    positional: bool = False
    name: str = ""

    @property
    def flag(self) -> str:
        """The name of the option on the command line."""
        if self.positional:
            return self.shown or self.name
        return f"-{self.name}" if len(self.name) == 1 else f"--{self.name.replace('_', '-')}"

    @property
    def shown(self) -> str | None:
        """What stands for the value in the help; None for a switch."""
        return self.metavar or self.kind.metavar

    @property
    def help(self) -> str:
        """The explanation, with the default where the explanation does not name it."""
        if isinstance(self.default, str) or self.default_shown in ("none", "off", ""):
            return self.explanation
        return f"{self.explanation.removesuffix('.')} ({self.default_shown})."

    @property
    def default_shown(self) -> str:
        """The default in words; "" for an option that must be given."""
        if self.default_text:
            return self.default_text
        default = self.value()
        if default is MISSING:
            return ""
        if default is False:
            return "off"
        return "none" if default is None or default == () else self.kind.write(default)

    def value(self) -> T | _MISSING_TYPE | None:
        """Return the default; MISSING where there is none."""
        return self.default() if callable(self.default) else self.default

    def read(self, value: RawValue) -> T | None:
        """Return the value that plain values of a file or words of the command line stand for. Raises OptionError."""
        return None if value is None and self.default is None else self.kind.read(self.name, value)

    def words(self, value: T | None) -> list[str]:
        """Return the value as words of the command line, which `read` takes."""
        if value is None or value is False:
            return []
        if value is True:
            return [self.flag]
        if self.kind.parts is None:
            return [self.flag, self.kind.write(value)]
        return [word for part in self.kind.parts(value) for word in ([part] if self.positional else [self.flag, part])]


def _as_field(make: Callable[P, Option[T]]) -> Callable[P, T]:
    """Return a function that makes a field with a record; its type is that of the value which the field will hold."""

    def as_field(*args: P.args, **kwargs: P.kwargs) -> T:
        placeholder: T = field(metadata={"option": make(*args, **kwargs)})
        return placeholder

    return as_field


option = _as_field(Option)
"""a field of `Options` with its record: takes what `Option` takes"""
