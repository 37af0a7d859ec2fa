"""Pixels that get no products although they may hold data: masks and bad chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.windows import Window
from hsichunk.unmixing.scoring import Tally

Kept = NDArray[np.bool_] | None


@dataclass(frozen=True)
class LeaveOut:
    """Pixels that get no products although they may hold data."""

    flags: Callable[[Window], NDArray[np.unsignedinteger[Any]]] | None = None
    """unsigned whole numbers (rows, columns) for a part of the tile: 0 for the pixels to work on; a bit a reason"""
    reasons: int = 0
    corrupt: bool = False
    """the pixels of a chunk that cannot be decoded, instead of ending with its error"""

    def of(self, part: Window) -> tuple[Kept, Tally]:
        """Which pixels of a part to work on, None for all; and how many each reason leaves out."""
        if self.flags is None:
            return None, Tally()
        flags = self.flags(part)
        return flags == 0, Tally(flagged=[int((flags >> bit & 1).sum()) for bit in range(self.reasons)])


NOTHING = LeaveOut()
