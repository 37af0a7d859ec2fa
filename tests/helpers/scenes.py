"""Real scenes and small synthetic tiles, labelled, for the tests of what is computed from them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import xarray as xr

from hsichunk.cube.cleaning import clean, source_of
from hsichunk.cube.from_array import as_cube
from hsichunk.errors import HsiWarning
from hsichunk.readers.tiles import open_tile
from hsichunk.synthetic.tile import write_tile

NAMES = ("samson", "dlr", "neon", "emit")
LAYOUTS = ((32, 63, 27), (90, 130, 1), (50, 40, 11))  # stored chunks of the tile of SHAPE below; the last sticks out
SHAPE = (90, 130)


class Scene(NamedTuple):
    """A cube (y, x, wavelength) and endmembers (endmember, wavelength), both in reflectance."""

    cube: xr.DataArray
    endmembers: xr.DataArray

    @property
    def counts(self) -> bool:
        """Whether the cube is made of stored counts."""
        return "counts_per_unit" in self.cube.attrs


def endmembers_of(spectra: Any, wavelength: Any) -> xr.DataArray:
    names = [f"EM{i + 1}" for i in range(len(spectra))]
    coords = {"endmember": names, "wavelength": np.asarray(wavelength, float)}
    return xr.DataArray(np.asarray(spectra, float), coords, ("endmember", "wavelength"), "reflectance")


@cache
def scene(shared: Path, name: str) -> Scene:
    """A real scene of the shared data; skips the test where what reads it is not installed."""
    return _READERS[name](shared)


def _samson(shared: Path) -> Scene:
    loadmat = pytest.importorskip("scipy.io", reason="samson is a .mat file, which SciPy reads").loadmat
    wavelength = np.linspace(401.0, 889.0, 156)
    spectra = loadmat(shared / "samson" / "E.mat")["E"].T
    return Scene(
        as_cube(loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"], wavelength), endmembers_of(spectra, wavelength)
    )


def samson_abundances(shared: Path) -> Any:
    """FCLS of the scene by its authors (endmember, y, x)."""
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
        tile = open_tile(next((shared / "neon_sjer").glob("*.h5")))
    cube = clean(tile)
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


@cache
def tile_path(folder: Path, chunks: tuple[int, int, int], **options: Any) -> Path:
    """A synthetic tile of SHAPE in a stored layout; the same counts for every layout."""
    name = "_".join(str(v) for v in (*chunks, *(f"{k}{v}" for k, v in sorted(options.items()))))
    path = folder / f"NEON_{name}_reflectance.h5"
    write_tile(path, **({"shape": SHAPE, "chunks": chunks, "seed": 3} | options))
    return path


def scattered_tiles(folder: Path) -> list[Path]:
    """Three tiles that overlap, off each other's chunks, with holes between them."""
    places = [(0, 0, (16, 21, 27)), (41, 33, (60, 70, 1)), (90, 0, (20, 30, 11))]
    paths = [folder / f"{number}.h5" for number in range(len(places))]
    for number, (row, col, chunks) in enumerate(places):
        origin = (368000.0 + col, 4307000.0 - row)
        write_tile(paths[number], shape=(60, 70), bands=64, seed=number, chunks=chunks, origin=origin)
    return paths


def cube_of(folder: Path, chunks: tuple[int, int, int] = LAYOUTS[0]) -> xr.DataArray:
    return clean(open_tile(tile_path(folder, chunks, bands=96)))


def numbers_of(cube: xr.DataArray, em: xr.DataArray) -> list[int]:
    """Numbers of the pixels that endmembers were taken from."""
    rows = [int(np.flatnonzero(cube.y.values == y)[0]) for y in em.y.values]
    cols = [int(np.flatnonzero(cube.x.values == x)[0]) for x in em.x.values]
    return [row * cube.sizes["x"] + col for row, col in zip(rows, cols, strict=True)]


def chunks_under(cube: xr.DataArray, rows: slice, cols: slice) -> int:
    """Stored chunks that hold a kept band and a pixel of the window."""
    source = source_of(cube)
    assert source is not None
    cy, cx, depth = source[0].stored.chunks
    down = (rows.stop - 1) // cy - rows.start // cy + 1
    across = (cols.stop - 1) // cx - cols.start // cx + 1
    return down * across * len(np.unique(source[0].bands // depth))
