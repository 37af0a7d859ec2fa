"""The commands around a run: endmembers, count, classify, plot, audit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
import zarr
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk.chunks.array import DECODED
from hsichunk.endmembers.library import read_library
from hsichunk.run import config_file, options
from hsichunk.threads import available
from tests.helpers.runs import go, products, shell
from tests.helpers.tiles import small_tile


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tile and the folder of a run over it."""
    folder = tmp_path_factory.mktemp("done")
    tile = small_tile(folder / "tile.h5")
    go(tile, folder / "out")
    return tile, folder / "out"


def test_endmembers_alone_are_those_of_a_run(done: tuple[Path, Path], tmp_path: Path) -> None:
    status, said = shell("endmembers", done[0], "-k", 4, "-o", tmp_path / "em.csv")
    assert status == 0, said
    assert (tmp_path / "em.csv").read_text() == (done[1] / "endmembers.csv").read_text()
    assert said.splitlines()[0].startswith("EM1  at x 368")
    status, said = shell("endmembers", done[0], "-k", 3, "-o", tmp_path / "em.nc", "--library", tmp_path / "em.csv")
    assert status == 0, said
    assert read_library(tmp_path / "em.nc").sizes["endmember"] == 3


def test_bands_are_chosen_as_clean_chooses_them(done: tuple[Path, Path], tmp_path: Path) -> None:
    chosen = ("--keep", "400:1300,1500:1700", "--drop", "900:1000", "--drop-last", 0, "--every", 2)
    cube = hsi.clean(hsi.open_tile(done[0]), keep=[(400, 1300), (1500, 1700)], drop=[(900, 1000)], drop_last=0, every=2)
    status, said = shell("endmembers", done[0], "-k", 3, "--maxit", 1, *chosen, "-o", tmp_path / "em.csv")
    assert status == 0, said
    found, expected = read_library(tmp_path / "em.csv"), hsi.nfindr(cube, 3, maxit=1)
    assert_array_equal(found.wavelength.values, expected.wavelength.values)
    assert_array_equal(found.values, expected.values)
    status, said = shell("count", done[0], *chosen)
    assert status == 0, said
    assert f"HySime  {int(hsi.hysime(cube)['count'])}\n" in said


def test_endmembers_say_how_near_the_library_is(done: tuple[Path, Path], tmp_path: Path) -> None:
    """The best match and the runner-up with their angles, as `identify` has them; a name that comes again numbered."""
    em = read_library(done[1] / "endmembers.csv")
    library = em[:2].assign_coords(endmember=["grass", "soil"])
    hsi.write_library(library, tmp_path / "known.csv")
    words = ("endmembers", done[0], "-k", 4, "-o", tmp_path / "em.csv", "--library")
    status, said = shell(*words, tmp_path / "known.csv")
    assert status == 0, said
    angle = hsi.identify(em, read_library(tmp_path / "known.csv")).angle.values
    lines = [line.split("  ", 2)[2] for line in said.splitlines()[:4]]
    assert lines[0] == f"grass ({angle[0, 0]:.3f} rad), then soil ({angle[0, 1]:.3f} rad)"
    assert lines[0].startswith("grass (0.000 rad), then soil (0.")
    assert lines[1].startswith("soil (0.000 rad), then grass (0.")
    assert float(lines[2].split("(")[1].split()[0]) == pytest.approx(angle[2, 0], abs=5e-4)
    assert 0.01 < angle[2, 0] < angle[2, 1]
    names = [line.split(" (")[0] for line in lines]
    assert names == list(read_library(tmp_path / "em.csv").endmember.values)
    assert len(set(names)) == 4
    hsi.write_library(library[:1], tmp_path / "one.csv")
    status, said = shell(*words, tmp_path / "one.csv")
    assert status == 0, said
    assert said.splitlines()[0].endswith("  grass (0.000 rad)")


def test_refined_endmembers_are_those_of_all_pixels(done: tuple[Path, Path], tmp_path: Path) -> None:
    few = ("--sample", 200, "--refine", "-o", tmp_path / "em.csv")
    status, said = shell("endmembers", done[0], "-k", 4, *few)
    assert status == 0, said
    assert said.startswith("largest simplex of all pixels, ")
    expected = hsi.nfindr(hsi.clean(hsi.open_tile(done[0])), 4, sample=200, refine=True)
    assert_array_equal(read_library(tmp_path / "em.csv").values, expected.values)


def test_the_report_names_the_nearest_spectra_of_a_library(done: tuple[Path, Path], tmp_path: Path) -> None:
    em = read_library(done[1] / "endmembers.csv")[::-1].assign_coords(endmember=["d", "c", "b", "a"])
    hsi.write_library(em, tmp_path / "known.csv")
    go(done[0], tmp_path / "out")
    status, said = shell("report", tmp_path / "out", "--library", tmp_path / "known.csv")
    assert status == 0, said
    page = (tmp_path / "out" / "report.html").read_text()
    order = [page.index(f"<td>{name} (0.000 rad), then ") for name in "abcd"]
    assert order == sorted(order)


def test_endmembers_refuses(done: tuple[Path, Path], tmp_path: Path) -> None:
    status, said = shell("endmembers", done[0], "-k", 4, "-o", tmp_path / "em.xyz")
    assert (status, said.count("\n")) == (1, 1), said
    assert shell("endmembers", tmp_path / "no.h5", "-o", tmp_path / "em.csv")[0] == 1


def test_count_draws_and_counts(done: tuple[Path, Path], tmp_path: Path) -> None:
    status, said = shell("count", done[0], "--far", 1e-3, "--figure", tmp_path / "eigenvalues.png")
    assert status == 0, said
    lines = said.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["HFC", "NWHFC", "HySime"]
    assert all(2 <= int(line.split()[1]) <= 8 for line in lines[:3])  # four were mixed
    pixels = hsi.hysime(hsi.clean(hsi.open_tile(done[0]))).attrs["pixels"]
    assert lines[3] == f"read    all {pixels} pixels with data, straight from the stored chunks"
    assert lines[4:] == [str(tmp_path / "eigenvalues.png")]
    assert (tmp_path / "eigenvalues.png").stat().st_size > 5000


@pytest.mark.parametrize("layout", ["spatial", "band"])
def test_count_decodes_each_chunk_once(tmp_path: Path, layout: str) -> None:
    """All three methods together; within the memory through a scratch file, where rows of chunks are too large."""
    shape, bands = (200, 210), 100
    chunks = {"spatial": (40, 50, 9), "band": (*shape, 1)}[layout]
    grid = np.linspace(400.0, 2500.0, bands).astype(np.float32)
    tile = small_tile(tmp_path / "tile.h5", shape=shape, chunks=chunks, wavelength=grid)
    cube = hsi.clean(hsi.open_tile(tile))
    kept = np.flatnonzero(np.isin(hsi.open_tile(tile).wavelength, cube.wavelength))
    needed = -(-shape[0] // chunks[0]) * -(-shape[1] // chunks[1]) * len(np.unique(kept // chunks[2]))
    status, said = shell("count", tile, "--memory", "1MB")
    assert (status, said.count("\n")) == (1, 1)
    least = said.split("give at least --memory ")[1].split(",")[0]
    said_of = {}
    for memory in ("2GB", least):
        before = DECODED.now()[0]
        status, said = shell("count", tile, "--memory", memory, "--threads", 2, "--far", 1e-3)
        assert status == 0, said
        assert DECODED.now()[0] - before == needed
        said_of[memory] = said.splitlines()
    pixels = int(hsi.moments(cube).attrs["pixels"])
    straight = f"read    all {pixels} pixels with data, straight from the stored chunks"
    file = f"read    all {pixels} pixels with data, through a scratch file of {cube.size * 2 / 1e6:.1f} MB"
    assert [said_of["2GB"][3], said_of[least][3]] == [straight, file if layout == "band" else straight]
    assert said_of["2GB"][:3] == said_of[least][:3]
    names = [hsi.hfc(cube), hsi.nwhfc(cube), hsi.hysime(cube)]
    assert [int(line.split()[1]) for line in (said_of["2GB"][i] for i in (0, 1, 2))] == [
        int(found["count"].values.ravel()[0]) for found in names
    ]


def test_count_reads_a_sample_or_a_site(done: tuple[Path, Path], tmp_path: Path) -> None:
    cube = hsi.clean(hsi.open_tile(done[0]))
    found = hsi.moments(cube, sample=3000, seed=2)
    status, said = shell("count", done[0], "--sample", 3000, "--seed", 2, "--far", 1e-3)
    assert status == 0, said
    assert said.splitlines()[3:] == [f"read    a sample of {found.attrs['pixels']} pixels with data"]
    counts = [int(hsi.hfc(found)["count"][0]), int(hsi.nwhfc(found)["count"][0]), int(hsi.hysime(found)["count"])]
    assert [int(line.split()[1]) for line in said.splitlines()[:3]] == counts
    other = small_tile(tmp_path / "other.h5", origin=(368000.0 + cube.sizes["x"], 4307000.0), seed=2)
    first = small_tile(tmp_path / "first.h5", origin=(368000.0, 4307000.0))
    status, said = shell("count", first, other)
    assert status == 0, said
    pixels = hsi.moments(hsi.clean(hsi.open_mosaic([first, other], chunks=None))).attrs["pixels"]
    assert pixels > 1.5 * found.attrs["pixels"]
    assert said.splitlines()[-1].startswith(f"read    all {pixels} pixels with data")
    for words, status, message in (
        (("--far", 0.7), 1, "false-alarm"),
        (("--figure", tmp_path / "a.doc"), 1, "expected .png, .svg, .pdf"),
        (("--sample", 0), 2, "sample"),
        (("--sample", 10**8), 1, "a smaller --sample"),
    ):
        code, said = shell("count", done[0], *words)
        assert (code, said.count("\n")) == (status, 1), said
        assert message in said


def test_classify_takes_other_thresholds(done: tuple[Path, Path], tmp_path: Path) -> None:
    path = tmp_path / "map.tif"
    words = ("classify", done[1], "--metric", "sid", "--threshold", "0.8,0.3,0.03", "--endmember", "EM1,EM3,EM4")
    status, said = shell(*words, "--relative", "-o", path)
    assert status == 0, said
    scores = products(done[1]).sid.sel(endmember=["EM1", "EM3", "EM4"])
    expected = hsi.classify(scores, [0.8, 0.3, 0.03], relative=True)
    with rasterio.open(path) as raster:
        assert_array_equal(raster.read(1), expected.values)
    shares = {line.split()[0]: float(line.split()[1].rstrip("%")) for line in said.splitlines()[:-1]}
    assert list(shares) == ["unclassified", "EM1", "EM3", "EM4"]
    assert sum(shares.values()) == pytest.approx(100, abs=0.03)
    assert shares["EM3"] == pytest.approx(100 * int((expected == 2).sum()) / int((expected != 255).sum()), abs=0.006)
    assert said.splitlines()[-1] == str(path)
    for words, message in (
        (("--metric", "ncc"), "metric is 'ncc'; expected sam or sid or abundance"),
        (("--endmember", "EM9"), "endmember EM9 is not in"),
        (("--threshold", "a"), "threshold is 'a'; expected numbers"),
    ):
        status, said = shell("classify", done[1], *words)
        assert status in (1, 2)
        assert message in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_plot_draws_each_figure(done: tuple[Path, Path], tmp_path: Path, suffix: str) -> None:
    status, said = shell("plot", done[1], "-o", tmp_path, "--format", suffix)
    assert status == 0, said
    paths = [Path(line) for line in said.splitlines()]
    assert [path.name for path in paths] == [
        f"{name}.{suffix}" for name in ("endmembers", "abundances", "sam_class", "sid_class", "overview")
    ]
    assert all(path.stat().st_size > 5000 for path in paths)


def test_audit_passes_and_finds_what_was_changed(done: tuple[Path, Path], tmp_path: Path) -> None:
    pytest.importorskip("cvxopt", reason="audit needs the reference extra")
    go(done[0], tmp_path / "out")
    status, said = shell("audit", tmp_path / "out", "--pixels", 300)
    assert status == 0, said
    assert said.endswith("passed\n")
    stored = zarr.open_group(tmp_path / "out" / "products.zarr", mode="r+")["abundance"]
    values = stored[:]
    values[0] += np.float32(1e-3)
    stored[:] = values
    status, said = shell("audit", tmp_path / "out", "--pixels", 300)
    assert status == 1
    assert not said.endswith("passed\n")


def test_a_written_config_says_and_gives_the_same(done: tuple[Path, Path], tmp_path: Path) -> None:
    words = (
        "run",
        done[0],
        "--out",
        tmp_path / "out",
        "-k",
        3,
        "--mask",
        "ndvi=0.1:",
        "--sid-threshold",
        "0.8,0.3,0.03",
    )
    path = tmp_path / "run.yml"
    assert shell(*words, "--write-config", path) == (0, f"{path}\n")
    assert not (tmp_path / "out").exists()
    text = path.read_text()
    given = config_file.read(path, {})
    assert options.build(given) == options.build(
        {
            "tiles": [str(done[0])],
            "out": str(tmp_path / "out"),
            "k": 3,
            "mask": ["ndvi=0.1:"],
            "sid_threshold": (0.8, 0.3, 0.03),
            "threads": available(),
        }
    )
    names = [line.split(":")[0] for line in text.splitlines() if line and not line.startswith("#")]
    comments = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(comments) > len(names) >= 20
    assert shell("run", "--config", path)[0] == 0
    assert (tmp_path / "out" / "run.json").exists()
