"""The real scenes of the shared data as cubes with endmembers, for tests against what others compute of them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr

from hsichunk.cube.from_array import as_cube
from hsichunk.errors import HsiWarning
from tests.helpers.cubes import cube_of, endmembers_of

NAMES = ("samson", "dlr", "neon", "emit")


class Scene(NamedTuple):
    """A cube (y, x, wavelength) and endmembers (endmember, wavelength), both in reflectance."""

    cube: xr.DataArray
    endmembers: xr.DataArray

    @property
    def counts(self) -> bool:
        """Whether the cube is made of stored counts."""
        return "counts_per_unit" in self.cube.attrs


@cache
def scene(shared: Path, name: str) -> Scene:
    """Return a real scene by name; the test is skipped where what reads it is not installed."""
    return _READERS[name](shared)


def _samson(shared: Path) -> Scene:
    loadmat = pytest.importorskip("scipy.io", reason="samson is a .mat file, which SciPy reads").loadmat
    wavelength = np.linspace(401.0, 889.0, 156)
    spectra = loadmat(shared / "samson" / "E.mat")["E"].T
    return Scene(
        as_cube(loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"], wavelength), endmembers_of(spectra, wavelength)
    )


def samson_abundances(shared: Path) -> Any:
    """Return the FCLS abundances (endmember, y, x) that the authors of samson publish with it."""
    loadmat = pytest.importorskip("scipy.io", reason="samson is a .mat file, which SciPy reads").loadmat
    return np.moveaxis(loadmat(shared / "samson" / "A_true.mat")["A_true"], -1, 0)


def _dlr(shared: Path) -> Scene:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(shared / "dlr_hysu" / "DLR_HySU_HS_large_targets.tif") as file:
        counts = np.moveaxis(file.read(), 0, -1)
    library = np.fromfile(shared / "dlr_hysu" / "DLR_HySU_HS_library.lib", "<f8").reshape(-1, counts.shape[2])
    wavelength = np.linspace(417.0, 903.0, counts.shape[2])
    cube = as_cube(counts, wavelength, scale=10000, no_data=15000)
    return Scene(cube, endmembers_of(library / 10000, wavelength))


def _neon(shared: Path) -> Scene:
    with pytest.warns(HsiWarning):  # the crop has lost the attributes that name the bad-band windows
        cube = cube_of(next((shared / "neon_sjer").glob("*.h5")))
    picked = cube.isel(
        y=xr.DataArray([0, 12, 17, 29], dims="endmember"), x=xr.DataArray([3, 21, 8, 25], dims="endmember")
    )
    return Scene(cube, endmembers_of(np.rint(picked.values * 10000.0) / 10000.0, cube.wavelength))


def _emit(shared: Path) -> Scene:
    stem = "emit20250324t221005_jpl_unmix_ex"
    header = (shared / "emit" / f"{stem}.hdr").read_text()
    values = np.fromfile(shared / "emit" / stem, "<f4").reshape(10, 285, 10).transpose(0, 2, 1)
    wavelength, good = (_envi_list(header, key) for key in ("wavelength", "bbl"))
    keep = good == 1
    library = np.genfromtxt(shared / "emit" / "basic_endmember_library.csv", delimiter=",", encoding="utf-8-sig")
    spectra = [np.interp(wavelength[keep], library[0, 1:], row[1:]) / 10000 for row in library[1:]]
    cube = as_cube(np.ascontiguousarray(values[..., keep]), wavelength[keep])
    return Scene(cube, endmembers_of(spectra, wavelength[keep]))


def _envi_list(header: str, key: str) -> Any:
    text = header.split(f"\n{key} = {{", 1)[1].split("}", 1)[0]
    return np.array([float(v) for v in text.split(",")])


_READERS = {"samson": _samson, "dlr": _dlr, "neon": _neon, "emit": _emit}
