"""`run`, `info`, `endmembers` and `count` over ENVI images and GeoTIFFs, next to NEON tiles of the same counts."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import hsichunk as hsi
from hsichunk.chunks.windows import Window
from hsichunk.cli import info
from hsichunk.cli.main import app
from hsichunk.cube.cleaning import clean
from hsichunk.endmembers.library import read_library
from hsichunk.endmembers.nfindr import nfindr
from hsichunk.errors import CorruptChunk, HsiError, HsiWarning
from hsichunk.mosaic.site import open_site
from hsichunk.readers import formats, image_chunks
from hsichunk.readers.images import open_image
from hsichunk.unmixing.float_pass import stream_floats
from hsichunk.unmixing.left_out import LeaveOut
from hsichunk.unmixing.scoring import Tally
from hsichunk.unmixing.solver import prepare
from hsichunk.unmixing.unmixing import unmix
from tests.helpers import image_files, tiles
from tests.helpers.image_files import CRS, EMIT, LEFT, TOP
from tests.helpers.runs import asked, assert_finished, assert_same, endmembers, go, products

rasterio = pytest.importorskip("rasterio")
h5py = pytest.importorskip("h5py")
SHAPE = (60, 50)
BANDS = 24
NM = np.linspace(450.0, 1300.0, BANDS)  # below NEON's bad bands
PLACE = f"map info = {{UTM, 1, 1, {LEFT}, {TOP}, 1, 1, 18, North, WGS-84, units=Meters}}\n"
SAID = "reflectance scale factor = 10000\ndata ignore value = -9999\n"
PRODUCTS = ["abundance", "rmse", "sam", "sid"]


def mixed(seed: int = 0) -> Any:
    """Counts of mixtures of three spectra, some pixels without data in all bands or in one."""
    rng = np.random.default_rng(seed)
    spectra = rng.integers(300, 6000, (3, BANDS))
    shares = rng.dirichlet(np.full(3, 0.5), SHAPE)
    values = np.rint(shares @ spectra + rng.normal(0, 20, (*SHAPE, BANDS))).astype(np.int16)
    values[5, 7], values[40, 3, 11] = -9999, -9999
    return values


def write_neon(path: Path, values: Any) -> Path:
    return tiles.write_counts(path, values, wavelength=NM, chunks=(16, 20, 9), compression="gzip", shuffle=True)


def write_envi(path: Path, values: Any, interleave: str = "bsq", lines: str = PLACE + SAID, **given: Any) -> Path:
    return image_files.write_envi(path, values, interleave, lines, **({"nm": NM, "fwhm": 5.5} | given))


def write_tiff(path: Path, values: Any, **profile: Any) -> Path:
    def scaled(file: Any) -> None:
        file.scales = [0.0001] * file.count
        image_files.tag(file, NM[: file.count])

    return image_files.write_tiff(path, values, scaled, **({"compress": "deflate"} | profile))


@pytest.fixture(scope="module")
def counts() -> Any:
    return mixed()


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, counts: Any) -> Path:
    """A finished run over a NEON tile."""
    folder = tmp_path_factory.mktemp("neon")
    go(write_neon(folder / "tile.h5", counts), folder / "out", k=3, drop_last=0)
    return folder / "out"


def raw(path: Path) -> Any:
    """All values (y, x, band) by GDAL."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            return np.moveaxis(file.read(), 0, -1)


# what is read

LAYOUTS: dict[str, dict[str, Any]] = {
    "strips": {"blockysize": 7, "interleave": "band"},
    "strips by pixel": {"blockysize": 7, "interleave": "pixel"},
    "tiles": {"tiled": True, "blockxsize": 16, "blockysize": 32, "interleave": "band"},
    "tiles by pixel": {"tiled": True, "blockxsize": 16, "blockysize": 16, "interleave": "pixel"},
}
KINDS = ("i2", "u1", "u2", "i4", "u4", "i8", "f4", "f8")


def pieced(stored: Any) -> Any:
    """All chunks put together."""
    whole = np.zeros([n * c for n, c in zip(stored.grid, stored.chunks, strict=True)], stored.native)
    with stored.opened() as handle:
        for place in np.ndindex(*stored.grid):
            chunk = stored.chunk(handle, place)
            assert chunk.shape == stored.chunks and chunk.dtype == stored.native and chunk.flags.c_contiguous
            whole[tuple(slice(p * c, (p + 1) * c) for p, c in zip(place, stored.chunks, strict=True))] = chunk
    inside = tuple(slice(n) for n in stored.shape)
    outside = np.ones(whole.shape, bool)
    outside[inside] = False
    assert not whole[outside].any()
    return whole[inside]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_envi_as_gdal_reads_it(tmp_path: Path, monkeypatch: Any, interleave: str, kind: str) -> None:
    values = np.random.default_rng(1).integers(0, 250, (37, 19, BANDS)).astype(kind)
    monkeypatch.setattr(image_chunks, "PIXELS", 130)
    monkeypatch.setattr(image_chunks, "BAND_PIXELS", 130)
    for order, offset in ((0, 0), (1, 11)):
        path = write_envi(tmp_path / f"{order}.img", values, interleave, SAID, order=order, offset=offset)
        stored = pickle.loads(pickle.dumps(formats.read(path, floats=True).reflectance))
        by_band = interleave == "bsq" and values.dtype.kind != "f"
        assert isinstance(stored, image_chunks.EnviArray) and stored.chunks == (6, 19, 1 if by_band else 24)
        np.testing.assert_array_equal(pieced(stored), raw(path))
        rows, cols, bands = np.array([30, 2, 2]), np.array([18, 0]), np.array([23, 4, 5])
        np.testing.assert_array_equal(stored.read(rows, cols, bands), raw(path)[np.ix_(rows, cols, bands)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("least", [True, False])
def test_geotiff_as_gdal_reads_it(tmp_path: Path, counts: Any, monkeypatch: Any, layout: str, least: bool) -> None:
    path = write_tiff(tmp_path / "scene.tif", counts, **LAYOUTS[layout])
    if least:  # blocks too large for whole spectra
        monkeypatch.setattr(image_chunks, "SMALL_COLUMN", 1000)
    stored = pickle.loads(pickle.dumps(formats.read(path).reflectance))
    by_band = "pixel" not in layout
    assert isinstance(stored, image_chunks.RasterArray) and stored.chunks[2] == (1 if least and by_band else BANDS)
    with rasterio.open(path) as file:
        high, wide = file.block_shapes[0]
    assert stored.chunks[0] % high == 0 and stored.chunks[1] % wide == 0
    np.testing.assert_array_equal(pieced(stored), counts)
    np.testing.assert_array_equal(
        stored.read(np.arange(59, 3, -5), np.array([4]), np.arange(BANDS)), counts[59:3:-5, 4:5]
    )


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
def test_bands_by_wavelength(tmp_path: Path, counts: Any, interleave: str) -> None:
    order = np.random.default_rng(3).permutation(BANDS)
    path = write_envi(tmp_path / "scene.img", counts, interleave)
    header = path.with_suffix(".hdr")
    said = ", ".join(map(repr, NM.tolist()))
    bad = [str(int(position not in (3, 4, 9))) for position in range(BANDS)]
    mixed_up = ", ".join(repr(float(NM[i])) for i in order)
    header.write_text(header.read_text().replace(said, mixed_up) + f"bbl = {{{', '.join(bad[i] for i in order)}}}\n")
    file = formats.read(path)
    np.testing.assert_array_equal(file.wavelength, NM)
    np.testing.assert_array_equal(pieced(file.reflectance), raw(path)[:, :, np.argsort(order)])
    assert file.windows == ((NM[3], NM[4]), (NM[9], NM[9]))
    cube = clean(open_image(path))
    assert set(NM) - set(cube.wavelength.values) == {NM[3], NM[4], NM[9]}


# runs


@pytest.mark.parametrize(("interleave", "order"), [("bsq", 0), ("bsq", 1), ("bil", 0), ("bil", 1), ("bip", 1)])
def test_envi_gives_the_bits_of_a_tile(
    tmp_path: Path, counts: Any, theirs: Path, monkeypatch: Any, interleave: str, order: int
) -> None:
    monkeypatch.setattr(image_chunks, "PIXELS", 700)
    monkeypatch.setattr(image_chunks, "BAND_PIXELS", 1000)
    path = write_envi(tmp_path / "scene.img", counts, interleave, order=order, offset=order * 7)
    report = go(path, tmp_path / "out", k=3, drop_last=0)
    assert_finished(tmp_path / "out")
    assert_same(products(tmp_path / "out"), products(theirs))
    assert (tmp_path / "out" / "endmembers.csv").read_bytes() == (theirs / "endmembers.csv").read_bytes()
    assert report["pixels"]["masked"] == 2 and report["site"]["name"] == "scene" and report["site"]["crs"] == CRS


@pytest.mark.parametrize("layout", LAYOUTS)
def test_geotiff_gives_the_bits_of_a_tile(
    tmp_path: Path, counts: Any, theirs: Path, monkeypatch: Any, layout: str
) -> None:
    given = tmp_path / "em.csv"
    given.write_bytes((theirs / "endmembers.csv").read_bytes())
    path = write_tiff(tmp_path / "scene.tif", counts, **LAYOUTS[layout])
    go(path, tmp_path / "found", k=3, drop_last=0)
    assert_same(products(tmp_path / "found"), products(theirs))
    monkeypatch.setattr("hsichunk.readers.image_chunks.SMALL_COLUMN", 1000)  # chunks of one band where they can be
    go(path, tmp_path / "given", endmembers=str(given), drop_last=0)
    assert_same(products(tmp_path / "given"), products(theirs), PRODUCTS)
    for name in ("abundance.tif", "rmse.tif"):
        np.testing.assert_array_equal(raw(tmp_path / "found" / name), raw(theirs / name))


@pytest.mark.parametrize("kind", ["u2", "i8"])
def test_other_whole_numbers(tmp_path: Path, kind: str) -> None:
    values = np.abs(mixed())
    plain = write_envi(tmp_path / "plain.img", values, "bip", PLACE + "reflectance scale factor = 10000\n")
    go(plain, tmp_path / "plain", k=3, drop_last=0)
    wide = write_envi(tmp_path / "wide.img", values.astype(kind), "bip", PLACE + "reflectance scale factor = 10000\n")
    go(wide, tmp_path / "wide", k=3, drop_last=0)
    assert_same(products(tmp_path / "plain"), products(tmp_path / "wide"), PRODUCTS)
    assert not np.isnan(products(tmp_path / "wide").rmse).any()


def test_bytes_are_all_counts(tmp_path: Path) -> None:
    """255 and 0 are no no-data where none is said."""
    values = np.random.default_rng(0).integers(0, 256, (*SHAPE, 6)).astype(np.uint8)
    path = write_envi(tmp_path / "scene.img", values, "bil", PLACE + "reflectance scale factor = 255\n")
    report = go(path, tmp_path / "out", k=3, drop_last=0)
    assert report["pixels"] == {"valid": SHAPE[0] * SHAPE[1], "masked": 0, "solved": SHAPE[0] * SHAPE[1]}


def test_an_image_that_lies_nowhere(tmp_path: Path, counts: Any, theirs: Path) -> None:
    path = write_envi(tmp_path / "scene.img", counts, "bil", SAID)
    em = endmembers(theirs)
    go(path, tmp_path / "found", k=3)
    np.testing.assert_array_equal(endmembers(tmp_path / "found").values, nfindr(clean(open_image(path)), 3).values)
    np.testing.assert_array_equal(
        raw(tmp_path / "found" / "abundance.tif"), np.moveaxis(products(tmp_path / "found").abundance.values, 0, -1)
    )  # rows of no map are not turned over
    go(path, tmp_path / "out", endmembers=str(theirs / "endmembers.csv"), drop_last=0)
    ours = products(tmp_path / "out")
    assert_same(ours, products(theirs), PRODUCTS)
    image = open_image(path)
    np.testing.assert_array_equal(ours.y, image.y)
    np.testing.assert_array_equal(ours.x, image.x)
    lazy = unmix(clean(image), em)
    for name in PRODUCTS:
        assert lazy[name].values.tobytes() == ours[name].values.tobytes()
    said = info.describe(asked(path, tmp_path, k=3, drop_last=0))
    assert said.bounds == (-0.5, -0.5, 49.5, 59.5) and said.crs is None
    assert "crs       none" in info.as_text(said)


def east(file: Any) -> None:
    """Moves a tile by 30 m."""
    system = file["SERC/Reflectance/Metadata/Coordinate_System"]
    del system["Map_Info"]
    info = tiles.MAP_INFO.replace("368000.00", "368030.00")
    system.create_dataset("Map_Info", data=info, dtype=h5py.string_dtype())


def test_a_site_of_images_and_a_tile(tmp_path: Path, counts: Any, theirs: Path) -> None:
    """The left half as an image, the right half as a tile or another image: the same as one tile of all."""
    left = write_envi(tmp_path / "a.dat", counts[:, :30])
    tile = tiles.write_counts(tmp_path / "b.h5", counts[:, 30:], wavelength=NM, chunks=(9, 9, 4), then=east)
    image = write_tiff(tmp_path / "c.tif", counts[:, 30:], transform=rasterio.Affine(1, 0, LEFT + 30, 0, -1, TOP))
    for name, right in (("tile", tile), ("image", image)):
        go([right, left], tmp_path / name, k=3, drop_last=0)
        assert_same(products(tmp_path / name), products(theirs))


def test_bands_marked_bad_on_both_sides(tmp_path: Path, counts: Any) -> None:
    """Windows of images begin and end at bands, those of tiles anywhere: what counts is which bands they hold."""
    nm = np.linspace(1200.0, 1500.0, BANDS)
    bad = (nm >= 1340) & (nm <= 1445)
    marked = f"bbl = {{{', '.join(str(int(not b)) for b in bad)}}}\n"
    tile = tiles.write_counts(tmp_path / "b.h5", counts[:, 30:], wavelength=nm, then=east)
    left = write_envi(tmp_path / "a.img", counts[:, :30], "bil", PLACE + SAID + marked, nm=nm)
    report = go([left, tile], tmp_path / "out", k=3, drop_last=0)
    assert report["bands"] == {"kept": int((~bad).sum()), "of": BANDS}
    other = write_envi(tmp_path / "c.img", counts[:, :30], "bil", nm=nm)
    with pytest.raises(
        HsiError, match=r"b.h5 has bad-band windows \(\(1340.0, 1445.0\).*c.img \(\); run them separately"
    ):
        open_site([tile, other])


def test_common_bands(tmp_path: Path, counts: Any) -> None:
    """An image whose bands lie elsewhere, interpolated as those of a tile are."""
    tile = tiles.write_counts(tmp_path / "a.h5", counts[:, 30:], wavelength=NM, then=east)
    nm = NM + 4.0
    for folder, left in (
        ("tile", tiles.write_counts(tmp_path / "b.h5", counts[:, :30], wavelength=nm, chunks=(9, 9, 4))),
        ("bil", write_envi(tmp_path / "b.img", counts[:, :30], "bil", nm=nm)),
        ("bsq", write_envi(tmp_path / "c.dat", counts[:, :30], "bsq", nm=nm)),
    ):
        with pytest.warns(HsiWarning, match="interpolated"):
            go([tile, left], tmp_path / folder, k=3, drop_last=0, bands="common")
        assert_same(products(tmp_path / folder), products(tmp_path / "tile"))


@pytest.mark.parametrize("kind", ["bil", "bil of floats", "tif"])
def test_audit(tmp_path: Path, counts: Any, kind: str) -> None:
    pytest.importorskip("cvxopt")
    pytest.importorskip("pysptools")
    from hsichunk.results.audit import audit

    if kind == "tif":
        path = write_tiff(tmp_path / "scene.tif", counts, **LAYOUTS["tiles"])
    else:
        path = write_envi(tmp_path / "scene.img", counts if kind == "bil" else counts / np.float32(1), "bil")
        path = path.with_suffix(".hdr")
    go(path, tmp_path / "out", k=3)
    report = audit(tmp_path / "out", pixels=300)
    assert report.passed and report.valid > 250


def test_a_run_goes_on_only_over_the_same_header(tmp_path: Path, counts: Any) -> None:
    path = write_envi(tmp_path / "scene.img", counts, "bil")
    first = go(path, tmp_path / "out", k=3, drop_last=0)
    assert go(path, tmp_path / "out", k=3, drop_last=0)["finished"] and not first["finished"]
    header = path.with_suffix(".hdr")
    header.write_text(header.read_text().replace("interleave = bil", "interleave = bip"))
    with pytest.raises(HsiError, match="overwrite"):
        go(path, tmp_path / "out", k=3, drop_last=0)


def test_a_cluster_reads_images(tmp_path: Path, counts: Any, theirs: Path) -> None:
    from hsichunk.run import cluster

    path = write_tiff(tmp_path / "scene.tif", counts)
    file = formats.read(path)
    draw = cluster.Draw(str(path), file.reflectance.stamp, np.array([3, 50]), np.array([0, 49]), None)
    values, valid = cluster.read_draw((np.arange(BANDS), False), draw, 1)
    np.testing.assert_array_equal(values, counts[[3, 50], [0, 49]])
    assert valid.all()


# floats


@pytest.mark.parametrize("interleave", ["bsq", "bil", "bip", "tif"])
def test_floats_chunk_by_chunk(tmp_path: Path, counts: Any, monkeypatch: Any, interleave: str) -> None:
    """What the pass over floats gives is what blocks of the cube give, to 1e-6."""
    monkeypatch.setattr(image_chunks, "PIXELS", 700)
    values = (counts + np.random.default_rng(0).random(counts.shape)).astype(np.float32)
    values /= 1 if interleave == "tif" else 10000  # which the GeoTIFF names
    values[5, 7], values[40, 3, 11], values[50, 3, 2] = -9999, np.nan, np.inf
    if interleave == "tif":
        path = write_tiff(tmp_path / "scene.tif", values, **LAYOUTS["tiles"])
    else:
        path = write_envi(tmp_path / "scene.img", values, interleave, PLACE + "data ignore value = -9999\n")
    cube = clean(open_image(path))
    em = nfindr(cube, 3)
    site = open_site([path], floats=True)
    held = site.tiles[0].counts(np.arange(BANDS))
    solver = prepare(em.values, ["EM1", "EM2", "EM3"], PRODUCTS, 10000.0, exact=False)
    whole = Window(0, SHAPE[0], 0, SHAPE[1])
    kept = np.random.default_rng(1).random(SHAPE) < 0.8
    for leave_out in (LeaveOut(), LeaveOut(lambda w: 1 - kept[w.top : w.bottom, w.left : w.right].astype(np.uint8), 1)):
        found: dict[str, Any] = {name: [] for name in PRODUCTS}
        tally = Tally()
        for part, products_of, share in stream_floats(held, solver, whole, 2, 20, leave_out):
            assert part.left == 0 and part.right == SHAPE[1] and set(products_of) >= set(PRODUCTS)
            tally.add(share)
            for name in PRODUCTS:
                found[name].append(products_of[name])
        expected = unmix(cube, em)
        inside = kept if leave_out.flags else np.ones(SHAPE, bool)
        for name in PRODUCTS:
            ours = np.concatenate(found[name], axis=-2)
            np.testing.assert_allclose(ours, expected[name].where(inside).values, rtol=0, atol=1e-6)
        good = inside & ~np.isnan(expected.rmse.values)
        assert (tally.valid, tally.masked) == (good.sum(), inside.size - good.sum()) and tally.worst_kkt < 1e-9
        assert tally.chunks == held.stored.grid[0] * held.stored.grid[1] and tally.flagged == [
            int((~kept).sum())
        ] * bool(leave_out.flags)
    with pytest.raises(HsiError, match="holds float32; expected counts"):
        next(stream_floats(held, prepare(em.values, ["a", "b", "c"], PRODUCTS, 10000.0, exact=True), whole, 1, 20))


@pytest.mark.parametrize("interleave", ["bsq", "bil"])
def test_a_run_over_floats(tmp_path: Path, counts: Any, interleave: str) -> None:
    values = ((counts + np.random.default_rng(0).random(counts.shape)) / 10000).astype(np.float32)
    values[5, 7] = -9999
    path = write_envi(tmp_path / "scene.img", values, interleave, "data ignore value = -9999\n")
    report = go(path, tmp_path / "out", k=3)
    cube = clean(open_image(path))
    em = nfindr(cube, 3)
    np.testing.assert_array_equal(endmembers(tmp_path / "out").values, em.values)
    ours, expected = products(tmp_path / "out"), unmix(cube, em)
    for name in PRODUCTS:
        np.testing.assert_allclose(ours[name].values, expected[name].values, rtol=0, atol=1e-6)
    assert report["pixels"]["valid"] == 2999 and 0 < report["fcls"]["worst_kkt"] < 1e-9


@pytest.mark.parametrize("solver", ["nnls", "ucls"])
def test_every_solver_and_metric_over_floats(tmp_path: Path, counts: Any, solver: str) -> None:
    more = np.random.default_rng(0).random(counts.shape)
    values = np.where(counts == -9999, -9999, (counts + more) / 10000).astype(np.float32)
    path = write_envi(tmp_path / "scene.img", values, "bil", "data ignore value = -9999\n")
    metrics = ("sam", "sid", "sid_sam", "ncc", "chebyshev")
    go(path, tmp_path / "out", k=3, solver=solver, metric=metrics)
    cube = clean(open_image(path))
    em, ours = nfindr(cube, 3), products(tmp_path / "out")
    expected = {name: getattr(hsi, name)(cube, em) for name in metrics}
    expected["abundance"] = getattr(hsi, solver)(cube, em).abundance
    for name, each in expected.items():
        np.testing.assert_allclose(ours[name].values, each.values, rtol=0, atol=2e-6, err_msg=name)


def test_floats_and_counts_are_not_mixed(tmp_path: Path, counts: Any) -> None:
    left = write_envi(tmp_path / "a.img", counts[:, :30])
    right = write_envi(
        tmp_path / "b.img", counts[:, 30:].astype(np.float32), lines=PLACE.replace("8000.0", "8030.0") + SAID
    )
    one_line([left, right], "a.img has values whole numbers, .*b.img floats; run them separately", floats=True)
    one_line([left, right], "interpolates whole counts; expected no floats", floats=True, bands="common")


# what is refused


def one_line(path: Any, match: str, **changed: Any) -> None:
    with pytest.raises(HsiError, match=match) as caught:
        open_site(path if isinstance(path, list) else [path], **changed)
    assert "\n" not in str(caught.value)


def test_refused(tmp_path: Path, counts: Any, shared: Path) -> None:
    good = write_envi(tmp_path / "good.img", counts)
    text = good.with_suffix(".hdr").read_text()

    def header(name: str, old: str, new: str) -> Path:
        path = tmp_path / name
        path.write_bytes(good.read_bytes())
        path.with_suffix(".hdr").write_text(text.replace(old, new))
        assert path.with_suffix(".hdr").read_text() != text
        return path

    lonely = tmp_path / "lonely.img"
    lonely.write_bytes(good.read_bytes())
    one_line(lonely, "lonely.img: cannot be opened")
    one_line(tmp_path / "none.tif", "none.tif: no such file; expected an image")
    one_line(tmp_path / "none.hdr", "none.hdr: no such file")
    short = header("short.img", "lines = 60", "lines = 61")
    one_line(
        short, r"short.img: 144000 bytes; .*short.hdr has 61 x 50 x 24 values of int16, 146400 bytes: get the whole"
    )
    with pytest.warns(HsiWarning, match="what follows them is not read"):
        open_site([header("long.img", "lines = 60", "lines = 59")])
    one_line(header("blind.img", "wavelength = ", "wavelengths = "), "24 bands without wavelengths; give them")
    cut = "data type = 6\nbands = 6\n"
    one_line(header("complex.img", "data type = 2\n", cut), "bands of type complex64; expected one type of numbers")
    one_line(header("turned.img", "units=Meters", "rotation=30"), "turned or upside down")
    nowhere = header("nowhere.img", PLACE, "")
    one_line([good, nowhere], "nowhere.img: does not say where it lies; .* run it alone")
    one_line(
        shared / "emit" / EMIT, "holds float32; expected whole numbers: unmix floats in Python, with hsi.open_tile"
    )
    granule = tmp_path / "EMIT_L2A_RFL_001_20250324T221005_2508314_001.nc"
    granule.write_bytes(b"x")
    one_line(granule, "is an EMIT granule, which hsi.open_tile")
    kept: Any = None
    with pytest.warns(HsiWarning, match="short.img: 144000 bytes.*left out"):
        kept = open_site([good, short], "skip")
    assert len(kept.tiles) == 1 and kept.skipped[0][0] == str(short)


def test_an_image_that_changes(tmp_path: Path, counts: Any) -> None:
    for path in (write_envi(tmp_path / "scene.img", counts), write_tiff(tmp_path / "scene.tif", counts)):
        stored = formats.read(path).reflectance
        with stored.opened() as handle:
            stored.chunk(handle, (0, 0, 0))
        path.write_bytes(path.read_bytes() + b" ")
        with pytest.raises(HsiError, match="changed since it was opened"), stored.opened():
            pass
        path.unlink()
        with pytest.raises(HsiError, match="cannot be opened"), stored.opened():
            pass


def test_damaged_blocks(tmp_path: Path, counts: Any, monkeypatch: Any) -> None:
    """With --on-error mask the pixels of blocks that cannot be decoded are left out, no others."""
    monkeypatch.setattr(image_chunks, "PIXELS", 256)
    path = write_tiff(tmp_path / "scene.tif", counts, **LAYOUTS["tiles by pixel"], nodata=None)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2 : len(whole) // 2 + 40] = b"\xff" * 40
    path.write_bytes(whole)
    with pytest.raises(CorruptChunk, match=r"scene.tif: chunk \(\d, \d, 0\), lines \d+ to \d+, cannot be read"):
        pieced(formats.read(path).reflectance)
    em = tmp_path / "em.csv"
    spectra = mixed()[[0, 10, 20], [0, 10, 20]] / 10000
    rows = [",".join(map(repr, [float(nm), *values.tolist()])) for nm, values in zip(NM, spectra.T, strict=True)]
    em.write_text("\n".join(["wavelength_nm,a,b,c", *rows]))
    with pytest.raises(CorruptChunk):
        go(path, tmp_path / "out", endmembers=str(em), drop_last=0)
    report = go(path, tmp_path / "masked", endmembers=str(em), drop_last=0, on_error="mask")
    bad = [place for _, *place in report["bad_chunks"]] if len(report["bad_chunks"][0]) > 3 else report["bad_chunks"]
    assert report["pixels"]["masked"] == sum(min(16, 60 - 16 * i) * min(16, 50 - 16 * j) for i, j, _ in bad) > 0


# the command line


def command(*words: str) -> str:
    result = CliRunner().invoke(app, [*words])
    assert result.exit_code == 0, result.output
    return result.output


def test_info(shared: Path, tmp_path: Path, counts: Any) -> None:
    said = command("info", str(shared / "emit" / f"{EMIT}.hdr"), "-k", "3")
    assert (
        "scale 1\n" in said
        and "float32" in said
        and "bands     285 from 381.0 to 2492.9 nm" in said
        and "crs       none" in said
    )
    assert "each chunk decoded once" in said and "244 kept" in said and "10 x 10 pixels\n" in said
    said = command("info", str(shared / "dlr_hysu" / "DLR_HySU_HS_large_targets.hdr"))
    assert "EPSG:32632" in said and "int16" in said and "no bad windows" in said and "of 0.7 m" in said
    assert "no data   -9999, about 0% of the pixels" in command("info", str(write_envi(tmp_path / "a.img", counts)))


def test_endmembers_and_count(tmp_path: Path, counts: Any) -> None:
    path = write_envi(tmp_path / "scene.img", counts, "bip")
    command("endmembers", str(path), "-k", "3", "-o", str(tmp_path / "em.csv"))
    cube = clean(open_image(path))
    np.testing.assert_array_equal(read_library(tmp_path / "em.csv").values, nfindr(cube, 3).values)
    assert "HySime" in command("count", str(path))


def test_the_report_of_an_image_of_floats_that_lies_nowhere(tmp_path: Path, counts: Any) -> None:
    from hsichunk.results.report.writer import write_report

    values = np.where(counts == -9999, -9999, counts / 10000).astype(np.float32)
    path = write_envi(tmp_path / "scene.img", values, "bil", "data ignore value = -9999\n")
    header = path.with_suffix(".hdr").read_text()
    kept = [line for line in header.splitlines() if not line.startswith(("map info", "coordinate system"))]
    path.with_suffix(".hdr").write_text("\n".join(kept) + "\n")
    go(path, tmp_path / "out", k=3, solver="nnls")
    page = write_report(tmp_path / "out").read_text()
    assert "nm as red, green, blue" in page  # read for its picture
    assert "by nonnegative least squares: none below 0." in page
    assert "without a CRS" in page and "Rows from the top down" in page and " px long" in page
    assert "North is up" not in page and "fully constrained" not in page
