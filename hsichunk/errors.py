"""The one error users are meant to see, and the one warning."""


class HsiError(Exception):
    """The job cannot be done as asked. One line: what was found, what was expected, what to do."""


class HsiWarning(UserWarning):
    """The job goes on, with an assumption or at a cost that the user should know of."""


class CorruptChunk(HsiError):
    """A stored chunk that cannot be decoded."""
