"""Leave pixels without products although they may hold data: those of masks and of bad chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Bools
from hsichunk.chunks.windows import Window
from hsichunk.unmixing.scoring import Tally


@dataclass(frozen=True)
class LeaveOut:
    """The pixels that get no products although they may hold data."""

    flags: Callable[[Window], NDArray[np.unsignedinteger]] | None = None
    """returns unsigned integers (rows, columns) for a part of the tile, 0 for wanted pixels; each bit is a reason"""
    reasons: int = 0
    """number of reasons, which are the lowest bits of the flags"""
    corrupt: bool = False
    """whether a chunk that cannot be decoded leaves its pixels out instead of raising CorruptChunk"""

    def select(self, part: Window) -> tuple[Bools | None, Tally]:
        """Return which pixels of a part are wanted, None for all, and a tally of those that each reason leaves out."""
        if self.flags is None:
            return None, Tally()
        flags = self.flags(part)
        return flags == 0, Tally(flagged=[int((flags >> bit & 1).sum()) for bit in range(self.reasons)])


NOTHING = LeaveOut()
"""leaves no pixel out"""
