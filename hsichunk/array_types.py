"""Array types that more than one module names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

if TYPE_CHECKING:
    from typing_extensions import TypeIs

Floats: TypeAlias = NDArray[np.float64]
Float32s: TypeAlias = NDArray[np.float32]
FloatValues: TypeAlias = NDArray[np.float32 | np.float64]
"""reflectance or products in either precision"""
Ints: TypeAlias = NDArray[np.int64]
Int16s: TypeAlias = NDArray[np.int16]
"""stored counts as the kernels take them"""
Int32s: TypeAlias = NDArray[np.int32]
Integers: TypeAlias = NDArray[np.integer]
"""stored counts of any integer type"""
Bytes: TypeAlias = NDArray[np.uint8]
"""colours, labels of class maps, stored bytes"""
Bools: TypeAlias = NDArray[np.bool_]
Positions: TypeAlias = NDArray[np.intp]
"""indices along one dimension, or of pixels"""
AnyArray: TypeAlias = NDArray[np.generic]
"""an array whose dtype is known only when the program runs: that of a file, for example"""
Number: TypeAlias = np.integer | np.floating
Numbers: TypeAlias = NDArray[Number]
"""stored values: counts, or reflectance as floats, in the type of the file"""
DaskToken: TypeAlias = "tuple[str | bytes | float | DaskToken | None, ...]"
"""what `__dask_tokenize__` returns: it tells an object's values from others, and is the same in every process"""


class DaskArray(Protocol):
    """What this package uses of `dask.array.Array`, whose own methods carry no types."""

    @property
    def dask(self) -> Mapping[object, object]:
        """The graph."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Number]: ...

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Sizes of the blocks along each dimension."""

    @property
    def numblocks(self) -> tuple[int, ...]: ...

    @property
    def blocks(self) -> DaskArray:
        """Indexed by numbers of blocks in place of positions."""

    def __getitem__(self, key: object, /) -> DaskArray: ...

    def __setitem__(self, key: object, value: object, /) -> None: ...

    def __truediv__(self, other: np.floating, /) -> DaskArray: ...

    def astype(self, dtype: DTypeLike, *, copy: bool) -> DaskArray: ...

    def rechunk(self, chunks: dict[int, int], /) -> DaskArray: ...

    def to_delayed(self) -> NDArray[np.object_]: ...

    def compute(self) -> Numbers: ...


LazyOrNumpy: TypeAlias = Numbers | DaskArray
"""the values of a cube: NumPy's in memory, dask's where they are lazy"""


def is_lazy(data: LazyOrNumpy) -> TypeIs[DaskArray]:
    """Return whether values are dask's."""
    return hasattr(data, "dask")
