"""The lesson's class maps, thresholds and scaling as PySpTools has them: label for label on real pixels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.io import loadmat

import hsichunk as hsi
from tests.helpers import pysptools_oracle as oracle

THRESHOLDS = [0.8, 0.3, 0.03]


def _neon(shared):
    path = next((shared / "neon_sjer").glob("*.h5"))
    with pytest.warns(hsi.HsiWarning):
        tile = hsi.open_tile(path)
    cube = hsi.clean(tile, lesson_bands=True)
    return cube, hsi.nfindr(cube, 4, maxit=5)


def _samson(shared):
    values = loadmat(shared / "samson" / "Y_clean.mat")["Y_clean"]
    values = values[:40, :50]
    cube = hsi.as_cube(values, np.linspace(401, 889, values.shape[2]))
    return cube, hsi.nfindr(cube, 4, maxit=5)


@pytest.mark.parametrize("scene", [_neon, _samson])
@pytest.mark.parametrize(
    ("metric", "threshold"), [("sid", THRESHOLDS), ("sam", THRESHOLDS), ("sid", 0.3), ("sam", 0.3)]
)
@pytest.mark.parametrize("chunked", [False, True])
def test_class_maps_equal_pysptools(shared, scene, metric, threshold, chunked):
    cube, em = scene(shared)
    em = em.isel(endmember=[0, 2, 3])
    cube = cube.compute()
    if chunked:
        cube = cube.chunk(y=7, x=11, wavelength=-1)
    distance = getattr(hsi, metric)(cube, em, scaling="minmax")
    ours = hsi.classify(distance, threshold, relative=True).values
    spectra, picked = cube.values.astype(np.float64), em.values.astype(np.float64)
    theirs = getattr(oracle, f"{metric}_classify")(spectra, picked, threshold)
    sure = _sure(getattr(oracle, f"{metric}_map")(spectra, picked), threshold, np.cos if metric == "sam" else None)
    assert sure.mean() > 0.95
    np.testing.assert_array_equal(ours[sure], theirs[sure])
    assert len(np.unique(theirs)) > 1


def _sure(distances: np.ndarray, threshold, of=None) -> np.ndarray:
    """Pixels whose label does not hang on less than 1e-6 of divergence or cosine: between classes, or to a limit."""
    if isinstance(threshold, list):
        low, high = distances.min((0, 1)), distances.max((0, 1))
    else:
        low, high = distances.min(), distances.max()
    limit = low + (high - low) * np.asarray(threshold)
    if of is not None:
        distances, limit = of(distances), of(limit)
    apart = np.diff(np.sort(distances, axis=-1), axis=-1).min(-1)
    return (apart > 1e-6) & (np.abs(distances - limit) > 1e-6).all(-1)


def test_the_lesson_in_ten_lines(shared, tmp_path):
    """The README's way from a tile to a class map, on the real crop."""
    path = next((shared / "neon_sjer").glob("*.h5"))
    with pytest.warns(hsi.HsiWarning):
        tile = hsi.open_tile(path)
    cube = hsi.clean(tile)
    em = hsi.nfindr(cube, 4, seed=0)
    out = hsi.write_zarr(hsi.unmix(cube, em), tmp_path / "products.zarr")
    picked = out.sid.sel(endmember=["EM1", "EM3", "EM4"])
    label = hsi.classify(picked, threshold=THRESHOLDS, relative=True)
    hsi.write_geotiff(label, tmp_path / "sid_class.tif")
    import rioxarray

    with rioxarray.open_rasterio(tmp_path / "sid_class.tif") as back:
        assert back.rio.crs == cube.rio.crs
        np.testing.assert_array_equal(back.values[0], label.values)
    assert isinstance(out, xr.Dataset)
    np.testing.assert_allclose(out.abundance.sum("endmember"), 1, atol=1e-5)
