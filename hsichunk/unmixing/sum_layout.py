"""Say which sums a pixel needs for its products, and in which row of the array of sums each of them lies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from hsichunk import metrics, schema


@dataclass(frozen=True)
class SumLayout:
    """The rows of an array (rows, n), float64, of sums over bands of n pixels x, for k endmembers e with shares q.

    The sums that every product needs come first, then those that some metrics need besides (`hsichunk.metrics`):

        square           sum x^2
        along            sum x e, one row an endmember
        plain            sum x, without the floor of SID                   (PLAIN_SUM)
        floored          of x raised to the floor of SID, 2k + 2 rows:     (LOGARITHMS)
          floored_sum    sum x
          x_ln_q         sum x ln q, one row an endmember
          q_ln_x         sum q ln x, one row an endmember
          x_ln_x         sum x ln x
        furthest         the largest |x - e|, one row an endmember         (FURTHEST)

    Sums that are not needed are empty slices. The kernels multiply x by their `left` weights for the rows from `along`
    to `x_ln_q`, and ln x by their `right` weights for `q_ln_x`; of `furthest`, which comes last, they take the number
    of rows.
    """

    k: int
    """number of endmembers"""
    needed: frozenset[str] = frozenset()
    """the optional sums, by their names in `hsichunk.metrics`"""

    @classmethod
    def of(cls, k: int, products: Iterable[str]) -> SumLayout:
        """Return the layout for some products; abundances, rmse and kkt need no optional sums."""
        needed: set[str] = set()
        for name in products:
            metric = metrics.BY_NAME.get(schema.NCC if name == schema.NCC_DISTANCE else name)
            needed |= metric.sums if metric else frozenset()
        return cls(k, frozenset(needed))

    @cached_property
    def logarithms(self) -> bool:
        """Whether the sums of SID are among them."""
        return metrics.LOGARITHMS in self.needed

    @cached_property
    def square(self) -> int:
        return 0

    @cached_property
    def along(self) -> slice:
        return slice(1, 1 + self.k)

    @cached_property
    def plain(self) -> slice:
        return _after(self.along, metrics.PLAIN_SUM in self.needed)

    @cached_property
    def unfloored(self) -> slice:
        """The products of x without the floor: `along` and `plain`."""
        return slice(self.along.start, self.plain.stop)

    @cached_property
    def floored(self) -> slice:
        return _after(self.plain, (2 * self.k + 2) * self.logarithms)

    @cached_property
    def floored_sum(self) -> slice:
        return _after(self.plain, self.logarithms)

    @cached_property
    def x_ln_q(self) -> slice:
        return _after(self.floored_sum, self.k * self.logarithms)

    @cached_property
    def q_ln_x(self) -> slice:
        return _after(self.x_ln_q, self.k * self.logarithms)

    @cached_property
    def x_ln_x(self) -> slice:
        return _after(self.q_ln_x, self.logarithms)

    @cached_property
    def furthest(self) -> slice:
        return _after(self.floored, self.k * (metrics.FURTHEST in self.needed))

    @cached_property
    def maxima(self) -> int:
        """Number of rows of `furthest`."""
        return int(self.furthest.stop - self.furthest.start)

    @cached_property
    def rows(self) -> int:
        """Number of all rows."""
        return int(self.furthest.stop)


def _after(rows: slice, count: int) -> slice:
    """Return the next `count` rows after some."""
    return slice(rows.stop, rows.stop + count)
