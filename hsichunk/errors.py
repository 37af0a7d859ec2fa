"""The error that users are meant to see, its kinds, and the one warning."""


class HsiError(Exception):
    """The job cannot be done as asked. One line: what was found, what was expected, what to do."""


class HsiWarning(UserWarning):
    """The job goes on, with an assumption or at a cost that the user should know of."""


class CorruptChunk(HsiError):
    """A stored chunk that cannot be decoded."""


def one_line(error: BaseException) -> str:
    """Return the message of an exception on one line of at most 300 characters, or its type if it has none."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300]


class OptionError(HsiError):
    """An option that is invalid whatever the tiles hold."""
