"""Find the stored values that a lazy dask array shows, where it is nothing but a selection of them.

The array's dask graph runs with positions in place of pixels: slices, lists, transposes and rechunks of positions give
positions again, while whatever computes with values fails on them. An array whose graph fails is no selection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from hsichunk.array_types import Positions

if TYPE_CHECKING:
    import dask.array as da
    from dask.typing import Key

T = TypeVar("T")
Index: TypeAlias = slice | Sequence[int] | Positions
"""what picks positions along one dimension"""

# how dask names the layers of a graph that only select. Other layers are not tried, since they may compute for long; a
# layer with such a name that does something else fails on positions
SELECTING = ("getitem-", "transpose-", "rechunk-merge-", "rechunk-split-")
TOGETHER = 64  # blocks followed at once: dask's cost for each block grows with their number
ORIGINAL = "original-"  # dask's prefix of the name of an array made from an object


class Shaped(Protocol):
    """An array of any library, or an object that dask reads blocks of."""

    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class OuterSelection:
    """The outer product of positions along the dimensions of an array: stands for its values while a graph runs."""

    axes: tuple[int, ...]
    """for each dimension, the dimension of the origin that it is"""
    at: tuple[Positions, ...]
    """for each dimension, positions along that dimension of the origin"""

    dtype = np.dtype(np.intp)  # dask takes what has a dtype for an array, and makes an array of anything else
    __array_ufunc__ = None  # arithmetic raises TypeError

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> NoReturn:
        raise TypeError("positions are no values")

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(positions) for positions in self.at)

    def __getitem__(self, key: Index | tuple[Index, ...]) -> OuterSelection:
        indices = key if isinstance(key, tuple) else (key,)
        if len(indices) != self.ndim or not all(isinstance(index, (slice, list, np.ndarray)) for index in indices):
            raise TypeError("not a window")
        if sum(not isinstance(index, slice) for index in indices) > 1:
            raise TypeError("several lists pick single pixels")
        return OuterSelection(self.axes, tuple(_picked(p, index) for p, index in zip(self.at, indices, strict=True)))

    def __array_function__(
        self,
        function: Callable[..., object],
        types: Iterable[type],
        args: Iterable[object],
        kwargs: dict[str, object],
    ) -> OuterSelection:
        """Apply one of NumPy's functions that only select. Raises TypeError for any other."""
        if function not in SELECTIONS:
            raise TypeError(f"{function.__name__} of positions")
        return SELECTIONS[function](*args, **kwargs)


def _picked(positions: Positions, index: Index) -> Positions:
    """Return the positions that an index picks. Raises TypeError unless they lie along one dimension."""
    picked = np.asarray(positions[index])
    if picked.ndim != 1:
        raise TypeError("not a window")
    return picked


def _transpose(a: OuterSelection, axes: Sequence[int] | None = None) -> OuterSelection:
    order = range(a.ndim)[::-1] if axes is None else [range(a.ndim)[i] for i in axes]
    if sorted(order) != list(range(a.ndim)):
        raise TypeError("not an order of axes")
    return OuterSelection(tuple(a.axes[i] for i in order), tuple(a.at[i] for i in order))


def _take(a: OuterSelection, indices: Sequence[int] | Positions, axis: int) -> OuterSelection:
    return a[tuple(np.asarray(indices) if i == axis else slice(None) for i in range(a.ndim))]


def _concatenate(arrays: Sequence[OuterSelection], axis: int = 0) -> OuterSelection:
    first = arrays[0]
    for other in arrays:
        if not isinstance(other, OuterSelection) or other.axes != first.axes or not _same(first, other, but=axis):
            raise TypeError("blocks of different pixels")
    joined = np.concatenate([a.at[axis] for a in arrays])
    return OuterSelection(first.axes, tuple(joined if i == axis else p for i, p in enumerate(first.at)))


SELECTIONS: dict[Callable[..., object], Callable[..., OuterSelection]] = {
    np.transpose: _transpose,
    np.concatenate: _concatenate,
    np.take: _take,
}
"""NumPy's functions that only select, as they apply to positions"""


def _same(a: OuterSelection, b: OuterSelection, but: int) -> bool:
    """Return whether two selections have the same positions along every dimension but one."""
    return all(i == but or np.array_equal(p, q) for i, (p, q) in enumerate(zip(a.at, b.at, strict=True)))


def follow(data: Shaped, origin_of: Callable[[Shaped], T | None]) -> tuple[T, OuterSelection] | None:
    """Return the origin of an array and the positions of it that the array shows.

    None unless the array is one of dask, and nothing but a selection. Its graph must read from one object; `origin_of`
    returns the origin of that object, or None for an object that has none. Positions are along the object's own
    dimensions, in the order of the array's dimensions.
    """
    if isinstance(data, np.ndarray):  # in memory: dask need not be imported
        return None
    import dask.array as da

    if not isinstance(data, da.Array):
        return None
    layers = data.dask.layers
    objects = {str(name).removeprefix(ORIGINAL) for name in layers if str(name).startswith(ORIGINAL)}
    if len(objects) != 1:
        return None
    (name,) = objects
    if any(not str(layer).startswith((*SELECTING, ORIGINAL)) and layer != name for layer in layers):
        return None
    node = dict(layers[ORIGINAL + name]).get(ORIGINAL + name)
    source: Shaped | None = getattr(node, "value", node)  # dask may wrap it
    if source is None:
        return None
    origin = origin_of(source)
    if origin is None:
        return None
    everything = OuterSelection(tuple(range(len(source.shape))), tuple(np.arange(n) for n in source.shape))
    if data.name == name and len(layers) == 2:  # nothing is selected: thousands of blocks need not be followed
        window: OuterSelection | None = everything
    else:
        window = _followed(data, {**data.dask, ORIGINAL + name: everything})
    return None if window is None or window.shape != data.shape else (origin, window)


def _followed(data: da.Array, graph: dict[Key, object]) -> OuterSelection | None:
    """Return the positions that an array shows by running its graph; None where the graph computes with values."""
    from dask.core import get
    from dask.optimization import cull

    keys = [(data.name, *coords) for coords in np.ndindex(data.numblocks)]
    results: list[object] = []
    try:
        for start in range(0, len(keys), TOGETHER):
            some = keys[start : start + TOGETHER]
            results += get(cull(graph, some)[0], some)  # type: ignore[no-untyped-call]
    except Exception:  # a computation may raise anything when it finds positions where it expects values
        return None
    blocks = np.empty(data.numblocks, dtype=object)
    for coords, block in zip(np.ndindex(blocks.shape), results, strict=True):
        blocks[coords] = block
    return _joined(blocks)


def _joined(blocks: NDArray[np.object_]) -> OuterSelection | None:
    """Return the positions that blocks show together; None unless they line up to one outer product."""
    listed = blocks.ravel().tolist()
    first = listed[0]
    for block in listed:
        if not isinstance(block, OuterSelection) or block.axes != first.axes or block.ndim != blocks.ndim:
            return None
    edges = [blocks[tuple(slice(None) if i == axis else 0 for i in range(blocks.ndim))] for axis in range(blocks.ndim)]
    for coords, block in np.ndenumerate(blocks):
        if not all(np.array_equal(block.at[i], edges[i][n].at[i]) for i, n in enumerate(coords)):
            return None
    return OuterSelection(first.axes, tuple(np.concatenate([b.at[i] for b in edge]) for i, edge in enumerate(edges)))
