"""Which stored values a lazy array shows, when it is nothing but a selection of them.

A dask graph is run with positions in place of pixels: slices, lists, transposes and rechunks give positions again,
while anything that computes with values finds none and fails, and then the array is no selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")

# layers that a selection may consist of, besides the one that reads: dask names them so. Others are not even tried,
# since they may compute for long; and one that is named so and does something else fails on positions.
SELECTING = ("getitem-", "transpose-", "rechunk-merge-", "rechunk-split-")
TOGETHER = 64  # blocks followed at once: what dask spends on each grows with their number
ORIGINAL = "original-"  # what dask puts before the name of an array made from an object


@dataclass(frozen=True)
class Positions:
    """Stands for a window of an array while a graph is followed: the outer product of positions, never pixels."""

    axes: tuple[int, ...]
    """for each dimension, which one of the origin it is"""
    at: tuple[NDArray[np.intp], ...]
    """for each dimension, positions along that one of the origin"""

    dtype = np.dtype(np.intp)  # with a dtype it passes for an array where dask would make one of anything else
    __array_ufunc__ = None  # arithmetic raises TypeError

    def __array__(self, *args: Any, **kwargs: Any) -> NDArray[Any]:
        raise TypeError("positions are no values")

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(positions) for positions in self.at)

    def __getitem__(self, key: Any) -> Positions:
        key = key if isinstance(key, tuple) else (key,)
        if len(key) != self.ndim or not all(isinstance(k, (slice, list, np.ndarray)) for k in key):
            raise TypeError("not a window")
        if sum(not isinstance(k, slice) for k in key) > 1:
            raise TypeError("several lists pick single pixels")
        return Positions(self.axes, tuple(_picked(p, k) for p, k in zip(self.at, key, strict=True)))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Positions:
        if function not in SELECTIONS:
            raise TypeError(f"{function.__name__} of positions")
        return SELECTIONS[function](*args, **kwargs)


def _picked(positions: NDArray[np.intp], key: Any) -> NDArray[np.intp]:
    picked: NDArray[np.intp] = positions[key]
    if picked.ndim != 1:
        raise TypeError("not a window")
    return picked


def _transpose(a: Positions, axes: Sequence[int] | None = None) -> Positions:
    order = range(a.ndim)[::-1] if axes is None else [range(a.ndim)[i] for i in axes]
    if sorted(order) != list(range(a.ndim)):
        raise TypeError("not an order of axes")
    return Positions(tuple(a.axes[i] for i in order), tuple(a.at[i] for i in order))


def _take(a: Positions, indices: Any, axis: int) -> Positions:
    return a[tuple(np.asarray(indices) if i == axis else slice(None) for i in range(a.ndim))]


def _concatenate(arrays: Sequence[Positions], axis: int = 0) -> Positions:
    first = arrays[0]
    for other in arrays:
        if not isinstance(other, Positions) or other.axes != first.axes or not _same(first, other, but=axis):
            raise TypeError("blocks of different pixels")
    joined = np.concatenate([a.at[axis] for a in arrays])
    return Positions(first.axes, tuple(joined if i == axis else p for i, p in enumerate(first.at)))


SELECTIONS: dict[Any, Callable[..., Positions]] = {
    np.transpose: _transpose,
    np.concatenate: _concatenate,
    np.take: _take,
}


def _same(a: Positions, b: Positions, but: int) -> bool:
    return all(i == but or np.array_equal(p, q) for i, (p, q) in enumerate(zip(a.at, b.at, strict=True)))


def follow(data: Any, origin_of: Callable[[Any], T | None]) -> tuple[T, Positions] | None:
    """The one object behind a dask array and the positions of it that the array shows; None unless it is a selection.

    `origin_of` says what an object that dask reads from is taken for, or None. Its positions are those of its own
    three dimensions, in the order of the array's dimensions.
    """
    layers = getattr(getattr(data, "dask", None), "layers", {})
    reading = {name.removeprefix(ORIGINAL) for name in layers if str(name).startswith(ORIGINAL)}
    if len(reading) != 1:
        return None
    (name,) = reading
    if any(not str(layer).startswith((*SELECTING, ORIGINAL)) and layer != name for layer in layers):
        return None
    node: Any = dict(layers[ORIGINAL + name]).get(ORIGINAL + name)
    node = getattr(node, "value", node)  # dask may wrap it
    origin = origin_of(node)
    if origin is None:
        return None
    everything = Positions(tuple(range(len(node.shape))), tuple(np.arange(n) for n in node.shape))
    if data.name == name and len(layers) == 2:  # nothing was selected: no need to follow thousands of blocks
        window: Positions | None = everything
    else:
        window = _followed(data, {**data.dask, ORIGINAL + name: everything})
    return None if window is None or window.shape != data.shape else (origin, window)


def _followed(data: Any, graph: dict[Any, Any]) -> Positions | None:
    from dask.core import get
    from dask.optimization import cull

    keys = [(data.name, *place) for place in np.ndindex(data.numblocks)]
    found: list[Any] = []
    try:
        for start in range(0, len(keys), TOGETHER):
            some = keys[start : start + TOGETHER]
            found += get(cull(graph, some)[0], some)  # type: ignore[no-untyped-call]
    except Exception:  # whatever a computation raises that finds positions where it expects values
        return None
    blocks = np.empty(data.numblocks, dtype=object)
    for place, block in zip(np.ndindex(blocks.shape), found, strict=True):
        blocks[place] = block
    return _joined(blocks)


def _joined(blocks: NDArray[Any]) -> Positions | None:
    """What blocks show together; None unless every one of them is the window that its neighbours make it."""
    first = blocks.flat[0]
    for block in blocks.flat:
        if not isinstance(block, Positions) or block.axes != first.axes or block.ndim != blocks.ndim:
            return None
    edges = [blocks[tuple(slice(None) if i == axis else 0 for i in range(blocks.ndim))] for axis in range(blocks.ndim)]
    for place, block in np.ndenumerate(blocks):
        if not all(np.array_equal(block.at[i], edges[i][n].at[i]) for i, n in enumerate(place)):
            return None
    return Positions(first.axes, tuple(np.concatenate([b.at[i] for b in edge]) for i, edge in enumerate(edges)))
