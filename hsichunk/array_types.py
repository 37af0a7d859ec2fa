"""NumPy array types that more than one module names."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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
