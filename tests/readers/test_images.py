"""Images of other sensors: real ENVI and GeoTIFF files, and made ones, through the whole way."""

from __future__ import annotations

import pickle
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from hsichunk.cube.cleaning import clean
from hsichunk.endmembers.library import endmembers_for, read_library
from hsichunk.endmembers.nfindr import nfindr
from hsichunk.errors import HsiError, HsiWarning
from hsichunk.readers.formats import format_of
from hsichunk.readers.images import open_image
from hsichunk.unmixing.unmixing import unmix
from tests.helpers import image_files
from tests.helpers.image_files import EMIT, LEFT, TOP
from tests.helpers.scenes import scene

rasterio = pytest.importorskip("rasterio")
pytest.importorskip("rioxarray")  # .rio
NM = np.linspace(400.0, 1000.0, 6)
write_envi = partial(image_files.write_envi, nm=NM)
write_tiff = partial(image_files.write_tiff, transform=rasterio.Affine(2.0, 0.0, LEFT, 0.0, -2.0, TOP))
tagged = partial(image_files.tag, nm=NM)


def counts(shape: tuple[int, int, int] = (7, 9, 6), seed: int = 0) -> Any:
    values = np.random.default_rng(seed).integers(1, 9000, shape).astype(np.int16)
    values[2, 3] = -9999
    return values


# real files


@pytest.mark.parametrize("name", [EMIT, f"{EMIT}.hdr"])
def test_emit_envi(shared: Path, name: str, no_compute: Any) -> None:
    with no_compute():
        image = open_image(shared / "emit" / name)
        cube = clean(image, drop_last=0)
    data = image.reflectance
    assert data.dims == ("y", "x", "wavelength") and data.dtype == np.float32 and data.chunks is not None
    assert data.attrs["scale_factor_stored"] == 1.0 and data.attrs["data_ignore_value"] == -9999
    raw = np.fromfile(shared / "emit" / EMIT, "<f4").reshape(10, 285, 10).transpose(0, 2, 1)
    np.testing.assert_array_equal(data.values, raw)
    assert float(image.wavelength[0]) == 381.0055927 and float(image.fwhm[0]) == 8.415000000000001
    theirs = scene(shared, "emit").cube  # good bands by another reader
    assert cube.sizes["wavelength"] == 244 and (raw.shape[2], float(raw.min())) == (285, np.float32(-0.01))
    np.testing.assert_array_equal(cube.values, theirs.values)
    np.testing.assert_array_equal(cube.wavelength, theirs.wavelength)
    assert float(cube.min()) > 0  # no masked water band is left
    assert "spatial_ref" not in image.coords and image.y.values.tolist() == list(range(10))


@pytest.mark.parametrize("product", ["abundance", "rmse", "sam", "sid"])
def test_emit_unmixed(shared: Path, product: str) -> None:
    """Floats of a lazy image give what an array in memory gives."""
    cube = clean(open_image(shared / "emit" / EMIT), drop_last=0)
    em = nfindr(cube, 4, sample=None, seed=0)
    plain = scene(shared, "emit").cube
    np.testing.assert_allclose(em.values, nfindr(plain, 4, sample=None, seed=0).values, rtol=0, atol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = unmix(cube, em)[product].values
    np.testing.assert_allclose(ours, unmix(plain, em.assign_coords(wavelength=plain.wavelength))[product], atol=1e-6)


@pytest.mark.parametrize("name", ["DLR_HySU_HS_large_targets.tif", "DLR_HySU_HS_large_targets.hdr"])
def test_dlr_geotiff_with_an_envi_header(shared: Path, name: str) -> None:
    image = open_image(shared / "dlr_hysu" / name)
    assert dict(image.sizes) == {"y": 13, "x": 16, "wavelength": 135}
    assert (
        image.reflectance.attrs["scale_factor_stored"] == 10000
        and image.reflectance.attrs["data_ignore_value"] == 15000
    )
    assert float(image.wavelength[0]) == pytest.approx(417.4) and float(image.fwhm[0]) == pytest.approx(4.76)
    assert image.rio.crs.to_epsg() == 32632
    assert image.rio.transform() == rasterio.Affine(0.7, 0, 669673.9, 0, -0.7, 5328072.4)
    assert float(image.x[0]) == pytest.approx(669673.9 + 0.35) and float(image.y[0]) == pytest.approx(5328072.4 - 0.35)


def test_dlr_areas_of_the_targets_with_libraries(shared: Path) -> None:
    """From files alone to areas: 2.2 % off with the image library, 8.3 % with the field library, as others measured."""
    folder = shared / "dlr_hysu"
    cube = clean(open_image(folder / "DLR_HySU_HS_large_targets.hdr"), drop_last=0)
    expected = {"DLR_HySU_HS_library": 0.022, "DLR_HySU_SVC": 0.083}
    for name, error in expected.items():
        with pytest.warns(HsiWarning, match="counts of 10000"):
            em = endmembers_for(folder / f"{name}.lib", cube.wavelength.values, cube.fwhm.values)
        assert em.wavelength.values.tobytes() == cube.wavelength.values.tobytes()
        abundance = unmix(cube, em, metric=()).abundance.values
        total = []
        for layer in abundance[:5]:  # the sixth is the grass between
            row, col = np.unravel_index(layer.argmax(), layer.shape)
            best = max(
                layer[max(r, 0) : r + 7, max(c, 0) : c + 7].sum()
                for r in range(row - 6, row + 1)
                for c in range(col - 6, col + 1)
            )
            total.append(abs(best * 0.49 - 9) / 9)
        assert np.mean(total) == pytest.approx(error, abs=0.003), total


def test_samson_written_as_a_tagged_geotiff(shared: Path, tmp_path: Path) -> None:
    plain = scene(shared, "samson").cube
    values = plain.values[:20, :30].astype(np.float32)

    def tags(file: Any) -> None:
        for band, nm in enumerate(plain.wavelength.values, start=1):
            file.set_band_description(band, f"band {band} ({float(nm) / 1000!r} Micrometers)")

    path = write_tiff(tmp_path / "samson.tif", values, tags, nodata=None)
    cube = clean(open_image(path), drop_last=0)
    np.testing.assert_allclose(cube.wavelength, plain.wavelength, rtol=1e-12)
    np.testing.assert_array_equal(cube.values, values)


# ENVI in all its forms


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
@pytest.mark.parametrize(("order", "offset"), [(0, 0), (1, 13)])
def test_envi_interleaves(tmp_path: Path, interleave: str, order: int, offset: int) -> None:
    values = counts()
    lines = "reflectance scale factor = 10000\ndata ignore value = -9999\nbbl = {1,0,1,1,0,0}\n"
    path = write_envi(tmp_path / "scene.dat", values, interleave, lines, order=order, offset=offset)
    image = open_image(path)
    np.testing.assert_array_equal(image.reflectance.values, values)
    assert image.reflectance.attrs["bad_band_windows"] == [NM[1], NM[1], NM[4], NM[5]]
    cube = clean(image, drop_last=0)
    expected = np.where(values == -9999, np.nan, values / 10000)[..., [0, 2, 3]].astype(np.float32)
    np.testing.assert_array_equal(cube.values, expected)
    np.testing.assert_array_equal(cube.wavelength, NM[[0, 2, 3]])
    part = image.reflectance.isel(y=slice(5, 1, -2), x=[8, 0, 3], wavelength=[1, 5])
    np.testing.assert_array_equal(part.values, values[5:1:-2][:, [8, 0, 3]][..., [1, 5]])
    assert int(image.reflectance[2, 4, 3]) == values[2, 4, 3]


def test_counts_give_the_bits_of_counts_in_memory(tmp_path: Path) -> None:
    from hsichunk.cube.from_array import as_cube

    values = np.abs(counts((40, 30, 6)))
    values[2, 3] = -9999
    path = write_envi(
        tmp_path / "scene.img", values, "bil", "reflectance scale factor = 10000\ndata ignore value = -9999\n"
    )
    cube = clean(open_image(path), drop_last=0)
    em = nfindr(cube, 3, sample=None)
    plain = as_cube(values, NM, scale=10000, no_data=-9999)
    ours, theirs = unmix(cube, em), unmix(plain, em)
    for name in ("abundance", "rmse", "sam", "sid"):
        assert ours[name].values.tobytes() == theirs[name].values.tobytes(), name
    assert np.isnan(ours.rmse.values[2, 3]) and int(np.isnan(ours.rmse).sum()) == 1


def test_bands_out_of_order_are_sorted(tmp_path: Path) -> None:
    values = counts()
    path = write_envi(tmp_path / "scene.img", values, lines="reflectance scale factor = 10000\n")
    swapped = NM[[3, 0, 1, 2, 5, 4]]
    header = path.with_suffix(".hdr").read_text()
    given = ", ".join(map(repr, swapped.tolist()))
    path.with_suffix(".hdr").write_text(
        header[: header.index("wavelength = ")] + f"wavelength = {{{given}}}\nbbl = {{0,1,1,1,1,1}}\n"
        "fwhm = {3, 0, 1, 2, 5, 4}\nreflectance scale factor = 10000\n"
    )
    image = open_image(path)
    np.testing.assert_array_equal(image.wavelength, NM)
    np.testing.assert_array_equal(image.fwhm, np.arange(6))
    np.testing.assert_array_equal(image.reflectance.values, values[..., [1, 2, 3, 0, 5, 4]])
    assert image.reflectance.attrs["bad_band_windows"] == [NM[3], NM[3]]


# GeoTIFF


@pytest.mark.parametrize("interleave", ["band", "pixel"])
@pytest.mark.parametrize("layout", [{"blockysize": 5}, {"tiled": True, "blockxsize": 16, "blockysize": 16}])
def test_geotiff_with_tagged_bands(tmp_path: Path, interleave: str, layout: dict[str, Any], monkeypatch: Any) -> None:
    values = counts((50, 70, 6))
    monkeypatch.setattr("hsichunk.readers.image_file.BLOCK_BYTES", 20 * 20 * 6 * 2)
    path = write_tiff(tmp_path / "scene.tif", values, tagged, interleave=interleave, **layout)
    with pytest.warns(HsiWarning, match="does not say what reflectance 1 is stored as; taken for 10000"):
        image = open_image(path)
    assert image.reflectance.data.numblocks[:2] != (1, 1) and image.reflectance.data.numblocks[2] == 1
    if layout.get("tiled"):
        assert {c % 16 for c in image.reflectance.chunks[0][:-1]} == {0}
    np.testing.assert_array_equal(image.reflectance.values, values)
    np.testing.assert_array_equal(image.fwhm, np.full(6, 5.5))
    np.testing.assert_array_equal(image.x.values[:2], [368001.0, 368003.0])
    np.testing.assert_array_equal(image.y.values[:2], [4306999.0, 4306997.0])
    assert image.rio.crs.to_epsg() == 32618
    assert image.reflectance.encoding["grid_mapping"] == "spatial_ref"


def test_geotiff_scales_and_imagery_tags(tmp_path: Path) -> None:
    def imagery(file: Any) -> None:
        for band, nm in enumerate(NM, start=1):
            file.update_tags(band, ns="IMAGERY", CENTRAL_WAVELENGTH_UM=f"{nm / 1000:.3f}", FWHM_UM="0.01")
        file.scales = [0.0001] * 6

    image = open_image(write_tiff(tmp_path / "scene.tif", counts(), imagery))
    assert image.reflectance.attrs["scale_factor_stored"] == 10000.0
    np.testing.assert_allclose(image.wavelength, NM, rtol=1e-12)
    np.testing.assert_allclose(image.fwhm, 10.0)


WYVERN = [503, 510, 519, 535, 549, 570]


def named(*names: str) -> Any:
    def describe(file: Any) -> None:
        for band, name in enumerate(names, start=1):
            file.set_band_description(band, name)
        file.scales = [0.0001] * len(names)

    return describe


@pytest.mark.parametrize("form", ["Band_{}", "band {}", "BAND{}", "Band_{}.0"])
def test_wavelengths_that_bands_are_named_after(tmp_path: Path, form: str) -> None:
    """As Wyvern names them, in nm."""
    path = write_tiff(tmp_path / "scene.tif", counts(), named(*(form.format(nm) for nm in WYVERN)))
    image = open_image(path)
    np.testing.assert_array_equal(image.wavelength, WYVERN)
    assert "fwhm" not in image.coords
    np.testing.assert_array_equal(image.reflectance.values, counts())


@pytest.mark.parametrize(
    "numbers",
    [
        [1, 2, 3, 4, 5, 6],
        [301, 302, 303, 304, 305, 306],  # numbers of bands, cut out of more of them
        [510, 503, 519, 535, 549, 570],
        [503, 503, 519, 535, 549, 570],
        [299, 510, 519, 535, 549, 570],
        [503, 510, 519, 535, 549, 2601],
        [503, 510, 519, 535, 549, "red"],
        [503, 510, 519, 535, 549, "600_mask"],
    ],
)
def test_numbers_of_bands_are_no_wavelengths(tmp_path: Path, numbers: list[Any]) -> None:
    path = write_tiff(tmp_path / "scene.tif", counts(), named(*(f"Band_{number}" for number in numbers)))
    with pytest.raises(HsiError, match="6 bands without wavelengths; give them"):
        open_image(path)


def test_tags_win_over_names(tmp_path: Path) -> None:
    def both(file: Any) -> None:
        named(*(f"Band_{nm}" for nm in WYVERN))(file)
        tagged(file)

    np.testing.assert_array_equal(open_image(write_tiff(tmp_path / "scene.tif", counts(), both)).wavelength, NM)


GAINS = "data gain values = {{{}}}\n"
OFFSETS = "data offset values = {{{}}}\n"


def listed(form: str, *values: float) -> str:
    return form.format(", ".join(map(str, values)))


@pytest.mark.parametrize("offsets", ["", listed(OFFSETS, *[0] * 6)])
@pytest.mark.parametrize("suffix", [".img", ".tif"])
def test_one_gain_of_an_envi_header_is_the_scale(tmp_path: Path, suffix: str, offsets: str) -> None:
    """As DESIS has it: the header lies beside a GeoTIFF that has no scale of its own."""
    path = write_envi(tmp_path / "scene.img", counts(), lines=listed(GAINS, *[0.0004] * 6) + offsets)
    if suffix == ".tif":
        path.unlink()
        path = write_tiff(tmp_path / "scene.tif", counts())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = open_image(path)
        cube = clean(image, drop_last=0)
    assert image.reflectance.attrs["scale_factor_stored"] == 2500.0
    assert float(cube[0, 0, 0]) == np.float32(counts()[0, 0, 0] / 2500)
    assert open_image(path, scale=5000).reflectance.attrs["scale_factor_stored"] == 5000


def test_a_scale_factor_wins_over_gains(tmp_path: Path) -> None:
    lines = listed(GAINS, 1, 2, 3, 4, 5, 6) + "reflectance scale factor = 10000\n"
    image = open_image(write_envi(tmp_path / "scene.img", counts(), lines=lines))
    assert image.reflectance.attrs["scale_factor_stored"] == 10000


def test_a_gain_of_one_says_nothing(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "scene.img", counts(), lines=listed(GAINS, *[1] * 6))
    with pytest.warns(HsiWarning, match="taken for 10000"):
        assert open_image(path).reflectance.attrs["scale_factor_stored"] == 10000


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (listed(GAINS, *[0.0001] * 5, 0.0002), r"bands have scales of 0\.0001 to 0\.0002 and offsets of 0 to 0"),
        (
            listed(GAINS, *[0.0001] * 6) + listed(OFFSETS, *[0.1] * 6),
            r"offsets of 0\.1 to 0\.1; expected one scale and",
        ),
        (listed(OFFSETS, *[0] * 5, -1), "scales of 1 to 1 and offsets of -1 to 0"),
        (listed(GAINS, *[0.0001] * 5), "'data gain values' has 5 values for 6 bands"),
        (listed(GAINS, *[0] * 6), "scale factor is inf; expected a number above 0: give scale="),
        (listed(GAINS, *[-1] * 6), "scale factor is -1; expected a number above 0: give scale="),
    ],
)
def test_gains_that_are_no_scale_are_refused(tmp_path: Path, lines: str, said: str) -> None:
    path = write_envi(tmp_path / "scene.img", counts(), lines=lines)
    with pytest.raises(HsiError, match=said) as error:
        open_image(path)
    assert "\n" not in str(error.value)


def test_wavelengths_given(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "scene.tif", counts())
    with pytest.raises(HsiError, match="6 bands without wavelengths; give them"):
        open_image(path)
    image = open_image(path, NM / 1000, scale=20000, no_data=5)
    np.testing.assert_allclose(image.wavelength, NM)
    assert (image.reflectance.attrs["scale_factor_stored"], image.reflectance.attrs["data_ignore_value"]) == (20000, 5)


def test_tokens_pickles_and_another_content(tmp_path: Path) -> None:
    path = write_envi(tmp_path / "scene.img", counts(), lines="reflectance scale factor = 1\n")
    one, two = open_image(path), open_image(path)
    assert one.reflectance.data.name == two.reflectance.data.name
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).reflectance.values, counts())
    write_envi(path, counts((8, 9, 6)), lines="reflectance scale factor = 1\n")
    assert open_image(path).reflectance.data.name != one.reflectance.data.name


def test_formats_are_told_by_name_and_header(tmp_path: Path, shared: Path) -> None:
    assert format_of("a.tif").name == format_of("a.VRT").name == "GeoTIFF"
    assert format_of("b.HDR").name == format_of(shared / "emit" / EMIT).name == "ENVI"
    assert {format_of(name).name for name in ("x.h5", "https://host/x", tmp_path / "emit.nc", "x", "")} == {"NEON"}
    assert format_of("EMIT_L2A_RFL_001_20250324T221005_2508314_001.nc").name == "EMIT"
    assert format_of("x.h5", image=True).name == format_of(tmp_path / "none.nc", image=True).name == "GeoTIFF"
    (tmp_path / "some.nc").touch()
    assert format_of(tmp_path / "some.nc", image=True).name == "EMIT"


# EMIT


def write_emit(path: Path, shared: Path, **left_out: bool) -> Any:
    """The real crop in the layout of a granule: groups and names as its readers have them."""
    h5py = pytest.importorskip("h5py")
    crop = open_image(shared / "emit" / EMIT)
    good = np.isin(crop.wavelength, clean(crop, drop_last=0).wavelength)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("reflectance", data=crop.reflectance.values, chunks=(4, 10, 285), compression="gzip")
        data.attrs["_FillValue"] = np.float32([-9999])
        bands = file.create_group("sensor_band_parameters")
        for name, values in (("wavelengths", crop.wavelength), ("fwhm", crop.fwhm), ("good_wavelengths", good)):
            if not left_out.get(name):
                bands.create_dataset(name, data=np.asarray(values, np.float32))
        where = np.mgrid[40:41:10j, -120:-119:10j]
        for name, values in zip(("lat", "lon"), where, strict=True):
            file.create_dataset(f"location/{name}", data=values)
    return crop, where


def test_an_emit_granule(shared: Path, tmp_path: Path, no_compute: Any) -> None:
    from hsichunk.writers.zarr_store import write_zarr

    path = tmp_path / "EMIT_L2A_RFL_001_20250324T221005_2508314_001.nc"
    crop, (lat, lon) = write_emit(path, shared)
    with no_compute():
        image = open_image(path)
        cube = clean(image, drop_last=0)
    assert format_of(path).name == "EMIT" and image.reflectance.attrs["data_ignore_value"] == -9999.0
    np.testing.assert_array_equal(image.reflectance.values, crop.reflectance.values)
    np.testing.assert_array_equal(
        image.reflectance[7:2:-2, [3, 1], 5].values, crop.reflectance[7:2:-2, [3, 1], 5].values
    )
    np.testing.assert_array_equal(cube.values, clean(crop, drop_last=0).values)
    np.testing.assert_allclose(image.fwhm, crop.fwhm, rtol=1e-6)
    out = write_zarr(unmix(cube, nfindr(cube, 3, sample=None), metric=()), tmp_path / "out.zarr")
    np.testing.assert_array_equal(out.lat, lat)
    np.testing.assert_array_equal(out.lon, lon)
    assert np.isfinite(out.abundance.values).all()
    assert pickle.loads(pickle.dumps(image)).reflectance.data.name == open_image(path).reflectance.data.name


def test_emit_refused(shared: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.nc"
    write_emit(path, shared, wavelengths=True)
    with pytest.raises(HsiError, match="is no EMIT reflectance"):
        open_image(path)
    path.write_text("text")
    with pytest.raises(HsiError, match="is no EMIT reflectance"):
        open_image(path)


# refused


def test_refused(tmp_path: Path) -> None:
    values = counts()
    good = write_envi(tmp_path / "good.img", values, lines="reflectance scale factor = 10000\n")
    text = good.with_suffix(".hdr").read_text()

    def changed(old: str, new: str) -> Path:
        path = tmp_path / "bad.img"
        path.write_bytes(good.read_bytes())
        path.with_suffix(".hdr").write_text(text.replace(old, new))
        assert path.with_suffix(".hdr").read_text() != text
        return path

    turned = rasterio.Affine(1, 0.5, 0, 0.5, -1, 0)
    cases = (
        (lambda: open_image(tmp_path / "none.img"), "no such file"),
        (lambda: open_image(changed("400.0, ", "")), "'wavelength' has 5 values for 6 bands"),
        (lambda: open_image(changed("400.0, ", "520.0, ")), "two bands at 520 nm"),
        (lambda: open_image(changed("Nanometers", "Micrometers")), "said to be micrometres"),
        (lambda: open_image(changed("= 10000", "= 0")), "scale factor is 0"),
        (lambda: open_image(changed("samples = 9", "samples = 90000")), "cannot be (opened|read)"),
        (
            lambda: open_image(write_tiff(tmp_path / "t.tif", values, tagged, transform=turned), scale=1),
            "only north-up",
        ),
        (lambda: open_image(good, [1.0, 2.0]), "2 wavelengths for 6 bands"),
        (lambda: open_image(good.with_suffix(".hdr"), scale=-1.0), "scale factor is -1"),
    )
    for bad, expected in cases:
        with pytest.raises(HsiError, match=expected) as error:
            bad().reflectance.load()
        assert "\n" not in str(error.value)
    text_file = tmp_path / "x.tif"
    text_file.write_text("no image")
    with pytest.raises(HsiError, match="cannot be opened"):
        open_image(text_file)

    def gains(file: Any) -> None:
        tagged(file)
        file.scales = [0.0001] * 5 + [0.0002]

    with pytest.raises(HsiError, match=r"bands have scales of 0\.0001 to 0\.0002"):
        open_image(write_tiff(tmp_path / "g.tif", values, gains))


def test_a_library_on_an_images_bands(shared: Path) -> None:
    cube = clean(open_image(shared / "emit" / EMIT), drop_last=0)
    with pytest.warns(HsiWarning):
        em = endmembers_for(shared / "emit" / "basic_endmember_library.csv", cube.wavelength, cube.fwhm)
    assert em.sizes == {"endmember": 5, "wavelength": cube.sizes["wavelength"]}
    with pytest.warns(HsiWarning):
        library = read_library(shared / "emit" / "basic_endmember_library.csv")
    assert isinstance(library, xr.DataArray)
    out = unmix(cube, em)
    np.testing.assert_allclose(out.abundance.sum("endmember"), 1, atol=1e-6)
