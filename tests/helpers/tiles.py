"""NEON files for tests: synthetic tiles of known layout, and files of any counts with anything changed on purpose.

`small_tile` writes a synthetic tile of 90 x 70 pixels and 40 bands, for runs. `wide_tile` gives one of 90 x 130 pixels
and 96 bands, for functions of cubes, and writes it once for each layout. `write_counts` writes counts of the test's own
with just what the reader needs, and lets the test leave out, misspell or damage any part of the file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import DECODED
from hsichunk.synthetic.tile import write_tile

WKT = (
    'PROJCS["WGS 84 / UTM zone 18N",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],'
    'PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Transverse_Mercator"],'
    'PARAMETER["latitude_of_origin",0],PARAMETER["central_meridian",-75],PARAMETER["scale_factor",0.9996],'
    'PARAMETER["false_easting",500000],PARAMETER["false_northing",0],UNIT["metre",1]]'
)
MAP_INFO = (
    "UTM,  1.000,  1.000,       368000.00,       4307000.0,       1.0000000,       1.0000000,  18,  North,  WGS-84,"
    "  units=Meters, 0"
)

SHAPE = (90, 70)
BANDS = 40
LAYOUTS = {"spatial": (16, 21, 9), "band": (90, 70, 1), "slab": (8, 70, 40)}
"""stored chunks of `small_tile`"""
WIDE_SHAPE = (90, 130)
WIDE_LAYOUTS = ((32, 63, 27), (90, 130, 1), (50, 40, 11))
"""stored chunks of `wide_tile`; the last sticks out"""


def small_tile(path: Path, **changed: Any) -> Path:
    """Write a synthetic tile of SHAPE and BANDS and return its path; `changed` goes to `hsi.synthetic.write_tile`.

    Its wavelengths are the same for every product and float size.
    """
    grid = np.linspace(400.0, 2500.0, BANDS).astype(np.float32)
    given: dict[str, Any] = {"shape": SHAPE, "wavelength": grid, "chunks": LAYOUTS["spatial"], "seed": 1, "k": 4}
    write_tile(path, **(given | changed))
    return path


def wide_tile(folder: Path, chunks: tuple[int, int, int] = WIDE_LAYOUTS[0], **changed: Any) -> Path:
    """Return a synthetic tile of WIDE_SHAPE and 96 bands in a folder, where it is written once; for reading alone.

    The counts are the same in any layout. `changed` goes to `hsi.synthetic.write_tile`.
    """
    name = "_".join(str(v) for v in (*chunks, *(f"{k}{v}" for k, v in sorted(changed.items()))))
    path = folder / f"NEON_{name}_reflectance.h5"
    if not path.exists():
        write_tile(path, **({"shape": WIDE_SHAPE, "bands": 96, "chunks": chunks, "seed": 3} | changed))
        read_only(path)
    return path


def read_only(path: Path) -> Path:
    """Keep tests (but those of root) from changing a file that other tests read; they copy its content instead."""
    path.chmod(0o444)
    return path


def scattered_tiles(folder: Path) -> list[Path]:
    """Write three tiles that overlap, off each other's chunks, with holes between them."""
    places = [(0, 0, (16, 21, 27)), (41, 33, (60, 70, 1)), (90, 0, (20, 30, 11))]
    paths = [folder / f"{number}.h5" for number in range(len(places))]
    for number, (row, col, chunks) in enumerate(places):
        origin = (368000.0 + col, 4307000.0 - row)
        write_tile(paths[number], shape=(60, 70), bands=64, seed=number, chunks=chunks, origin=origin)
    return paths


def counts(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Return counts (y, x, band) over the whole range of int16, some of them no data."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-100, 15000, shape, dtype=np.int16)
    values[rng.random(shape[:2]) < 0.1] = -9999
    values.flat[:4] = (-32768, 32767, 0, -1)
    return values


def write_counts(
    path: Path,
    data: NDArray[Any] | None = None,
    *,
    site: str = "SERC",
    wavelength: Any = None,
    then: Callable[[h5py.File], None] | None = None,
    **storage: Any,
) -> Path:
    """Write a NEON file of counts (y, x, band) with just what the reader needs, and return its path.

    `then` changes the open file; `storage` (chunks, compression, ...) goes to h5py's create_dataset.
    """
    data = counts((12, 14, 20)) if data is None else data
    nm = np.linspace(400.0, 2500.0, data.shape[2]) if wavelength is None else np.asarray(wavelength)
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{site}/Reflectance")
        group.attrs["Band_Window_1_Nanometers"] = np.array([1340, 1445])
        group.attrs["Band_Window_2_Nanometers"] = np.array([1790, 1955])
        reflectance = group.create_dataset("Reflectance_Data", data=data, **storage)
        reflectance.attrs.update({"Scale_Factor": 10000.0, "Data_Ignore_Value": -9999.0, "Interleave": "BSQ"})
        spectral = group.create_group("Metadata/Spectral_Data")
        spectral.create_dataset("Wavelength", data=nm).attrs["Units"] = "nanometers"
        spectral.create_dataset("FWHM", data=np.full(len(nm), 5.5))
        system = group.create_group("Metadata/Coordinate_System")
        for name, text in (("Map_Info", MAP_INFO), ("EPSG Code", "32618"), ("Coordinate_System_String", WKT)):
            system.create_dataset(name, data=text, dtype=h5py.string_dtype())
        if then is not None:
            then(file)
    return path


def group(file: h5py.File) -> h5py.Group:
    return file["SERC/Reflectance"]


def system(file: h5py.File) -> h5py.Group:
    return file["SERC/Reflectance/Metadata/Coordinate_System"]


def spectral(file: h5py.File) -> h5py.Group:
    return file["SERC/Reflectance/Metadata/Spectral_Data"]


def data_attrs(file: h5py.File) -> Any:
    return file["SERC/Reflectance/Reflectance_Data"].attrs


def replace(owner: Any, name: str, value: Any) -> None:
    """Put another value in place of a member of a group."""
    del owner[name]
    owner[name] = value


class Counter:
    """Counts the chunks and bytes that are decoded inside a with block."""

    def __enter__(self) -> Counter:
        self._before = DECODED.now()
        return self

    def __exit__(self, *exc: object) -> None:
        after = DECODED.now()
        self.chunks, self.bytes = after[0] - self._before[0], after[1] - self._before[1]
