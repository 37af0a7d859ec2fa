"""Small NEON files for tests: any counts in any layout, with anything left out, misspelt or damaged on purpose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from hsichunk.chunks.array import DECODED

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


def counts(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    """Counts over the whole range of int16, some of them no data."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-100, 15000, shape, dtype=np.int16)
    values[rng.random(shape[:2]) < 0.1] = -9999
    values.flat[:4] = (-32768, 32767, 0, -1)
    return values


def write(
    path: Path,
    data: NDArray[Any] | None = None,
    *,
    site: str = "SERC",
    wavelength: Any = None,
    then: Callable[[h5py.File], None] | None = None,
    **storage: Any,
) -> Path:
    """A file with just what the reader needs; `then` changes it, `storage` goes to create_dataset."""
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
    """Another value for a member of a group."""
    del owner[name]
    owner[name] = value


class Counter:
    """Counts chunks decoded inside a with block."""

    def __enter__(self) -> Counter:
        self._before = DECODED.now()
        return self

    def __exit__(self, *exc: object) -> None:
        after = DECODED.now()
        self.chunks, self.bytes = after[0] - self._before[0], after[1] - self._before[1]
