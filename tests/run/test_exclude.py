"""`--exclude`: outliers are no candidates, for any method, from the sample or from all pixels, and are counted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import hsichunk as hsi
from hsichunk import schema
from hsichunk.cli import dry_run
from hsichunk.cube.sampling import Sample
from hsichunk.endmembers.library import read_library
from hsichunk.endmembers.outliers import outlying, without_outliers
from hsichunk.errors import OptionError
from hsichunk.run import search_memory
from hsichunk.run.open_inputs import prepared
from tests.helpers.runs import asked, checksums, endmembers, go, shell
from tests.helpers.tiles import LAYOUTS, SHAPE, small_tile

PLANTED = [(5, 6), (40, 33), (77, 12)]
LIMIT = 30.0  # water lies at 16
WHOLE: dict[str, Any] = {"share": 1.0, "sample": SHAPE[0] * SHAPE[1]}
"""every pixel is in the sample"""


@pytest.fixture(scope="module", params=["spatial", "band"])
def tiles(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tile, and the same with two pixels of unflagged no-data and one far too bright."""
    folder = tmp_path_factory.mktemp(request.param)
    for name in ("plain", "spoilt"):
        (folder / name).mkdir()
    plain = small_tile(folder / "plain" / "tile.h5", chunks=LAYOUTS[request.param], no_data="none")
    spoilt = folder / "spoilt" / "tile.h5"
    shutil.copy(plain, spoilt)
    with h5py.File(spoilt, "r+") as file:
        data = file["SERC/Reflectance/Reflectance_Data"]
        for y, x in PLANTED[:2]:
            assert (data[y, x] != schema.NEON_NO_DATA).all()
            data[y, x] = -9998
        data[PLANTED[2]] = np.linspace(32000, 20000, data.shape[2]).astype(np.int16)
    return plain, spoilt


def places(em: Any) -> list[tuple[float, float]]:
    return sorted(zip(em.y.values.tolist(), em.x.values.tolist(), strict=True))


@pytest.mark.parametrize("refine", [False, True])
@pytest.mark.parametrize("limit", [LIMIT, 3.01 / (SHAPE[0] * SHAPE[1])])
def test_a_run_has_the_endmembers_of_nfindr(
    tiles: tuple[Path, Path], tmp_path: Path, refine: bool, limit: float
) -> None:
    """Bit for bit; without the guard the pixels that were planted are among them."""
    cube = hsi.clean(hsi.open_tile(tiles[1]))
    expected = hsi.nfindr(cube, 4, sample=WHOLE["sample"], share=1.0, refine=refine, exclude=limit)
    report = go(tiles[1], tmp_path / "out", refine=refine, exclude=limit, **WHOLE)
    assert_array_equal(endmembers(tmp_path / "out").values, expected.values)
    stage = report["stages"]["endmembers"]
    assert stage["excluded"] == expected.attrs["excluded"] == len(PLANTED)
    assert stage["sample_pixels"] == expected.attrs["sample_pixels"]
    assert report["options"]["exclude"] == report["fingerprint"]["exclude"] == limit
    plain = hsi.clean(hsi.open_tile(tiles[0]))
    unspoilt = hsi.nfindr(plain, 4, sample=WHOLE["sample"], share=1.0, refine=refine)
    assert places(expected) == places(unspoilt)
    spoilt = go(tiles[1], tmp_path / "spoilt", refine=refine, **WHOLE)
    assert "excluded" not in spoilt["stages"]["endmembers"]
    assert not np.array_equal(endmembers(tmp_path / "spoilt").values, expected.values)


@pytest.mark.parametrize("method", schema.METHODS)
def test_every_method_leaves_them_out(tiles: tuple[Path, Path], tmp_path: Path, method: str) -> None:
    """As where they are flagged as no-data."""
    flagged = tmp_path / "tile.h5"
    shutil.copy(tiles[1], flagged)
    with h5py.File(flagged, "r+") as file:
        for place in PLANTED:
            file["SERC/Reflectance/Reflectance_Data"][place] = schema.NEON_NO_DATA
    report = go(tiles[1], tmp_path / "out", method=method, exclude=LIMIT, **WHOLE)
    assert report["stages"]["endmembers"]["excluded"] == len(PLANTED)
    go(flagged, tmp_path / "flagged", method=method, **WHOLE)
    assert_array_equal(endmembers(tmp_path / "out").values, endmembers(tmp_path / "flagged").values)
    go(tiles[1], tmp_path / "spoilt", method=method, **WHOLE)
    assert not np.array_equal(endmembers(tmp_path / "spoilt").values, endmembers(tmp_path / "out").values)


@pytest.mark.parametrize("refine", [False, True])
def test_tiles_one_by_one_add_up(tiles: tuple[Path, Path], tmp_path: Path, refine: bool) -> None:
    beside = small_tile(tmp_path / "z.h5", seed=2, origin=(368000.0 + SHAPE[1], 4307000.0))
    report = go([tiles[1], beside], tmp_path / "out", per_tile=True, refine=refine, exclude=LIMIT, **WHOLE)
    assert report["stages"]["endmembers"]["excluded"] == len(PLANTED)


def test_where_nothing_is_excluded_nothing_changes(tiles: tuple[Path, Path], tmp_path: Path) -> None:
    report = go(tiles[0], tmp_path / "out", exclude=1000.0)
    assert report["stages"]["endmembers"]["excluded"] == 0
    go(tiles[0], tmp_path / "plain")
    ours, theirs = checksums(tmp_path / "out"), checksums(tmp_path / "plain")
    for sums in (ours, theirs):
        del sums["products.zarr/zarr.json"]  # names the run
    assert ours == theirs


@pytest.mark.parametrize("words", [(), ("--refine",)])
def test_the_commands_say_how_many(tiles: tuple[Path, Path], tmp_path: Path, words: tuple[str, ...]) -> None:
    given = (tiles[1], "-k", 4, "--exclude", LIMIT, "--share", 1, "--sample", WHOLE["sample"], *words)
    status, said = shell("endmembers", *given, "-o", tmp_path / "em.csv")
    assert status == 0, said
    assert "3 outliers left out\n" in said
    status, said = shell("run", *given, "--out", tmp_path / "out")
    assert status == 0, said
    assert "3 outliers left out of the search for endmembers\n" in said
    assert_array_equal(read_library(tmp_path / "em.csv").values, endmembers(tmp_path / "out").values)
    status, said = shell("run", *given[:3], "--out", tmp_path / "out")
    assert status == 1 and "exclude" in said and said.count("\n") == 1


def test_refused_in_one_line(tiles: tuple[Path, Path], tmp_path: Path) -> None:
    for value in (0, -1, "nan", "inf"):
        status, said = shell("run", tiles[0], "--out", tmp_path / "out", "--exclude", value)
        assert (status, said.count("\n")) == (2, 1), said
        assert "exclude is" in said and "expected a distance of 1 or more (as 50), or a share" in said
    with pytest.raises(OptionError, match=r"endmembers is 'em.csv'; expected no --exclude beside it"):
        asked(tiles[0], tmp_path, exclude=5, endmembers="em.csv")
    with pytest.raises(OptionError, match="exclude is 'far'; expected a number"):
        asked(tiles[0], tmp_path, exclude="far")
    few = ("--exclude", 0.99, "--sample", 300, "--share", 1, "-k", 8)
    status, said = shell("endmembers", tiles[0], *few, "-o", tmp_path / "em.csv")
    assert (status, said.count("\n")) == (1, 1), said
    assert "expected at least k = 8: give a smaller share" in said


def test_the_plan_knows_of_it(tiles: tuple[Path, Path], tmp_path: Path) -> None:
    """More memory a pixel, and two passes more where chunks are decoded for each."""
    plain, guarded = (asked(tiles[0], tmp_path, refine=True, exclude=limit) for limit in (None, LIMIT))
    site, bands, _, _ = prepared(plain)
    few, more = (search_memory.needs(site, bands, options) for options in (plain, guarded))
    assert more.peak > few.peak
    assert more.decodes == (few.decodes if few.decodes == 1 else 2 * few.decodes)
    assert dry_run.dry_run(guarded).plan.refine_decodes == more.decodes
    report = go(tiles[1], tmp_path / "out", refine=True, exclude=LIMIT)
    decoded, once = report["stages"]["refine"]["chunks_decoded"], dry_run.dry_run(guarded).chunks
    assert decoded == more.decodes * once


def test_a_guarded_run_loads_no_more(tiles: tuple[Path, Path], tmp_path: Path) -> None:
    """Than one without the guard, until products are written."""
    code = (
        "import sys; from pathlib import Path; from hsichunk.run import endmembers, options; "
        "from hsichunk.run.job import Job; from hsichunk.run.ledger import Ledger; "
        "from hsichunk.run.make_plan import make_plan; from hsichunk.run.open_inputs import prepared; "
        f"asked = options.build({{'tiles': [{str(tiles[1])!r}], 'out': '', 'exclude': {LIMIT}}}); "
        "site, bands, asked, _ = prepared(asked); "
        "job = Job(asked, site, bands, make_plan(site, bands, asked), Ledger(Path(), {}), lambda *_: None); "
        "endmembers.find(job); print(job.stages.endmembers.excluded >= 0); "
        "print(*sorted({'xarray', 'dask', 'pandas', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]


def test_the_guard_of_a_sample() -> None:
    rng = np.random.default_rng(0)
    spectra = rng.integers(1000, 1200, (500, 6)).astype(np.int16)
    spectra[[3, 99]] = 30000
    place = np.arange(500.0)
    sample = Sample(spectra, 10000.0, place, place + 1, 500)
    less, excluded = without_outliers(sample, 4, 30.0)
    assert excluded == 2
    assert_array_equal(less.y, np.delete(place, [3, 99]))
    assert_array_equal(less.spectra, np.delete(spectra, [3, 99], 0))
    assert without_outliers(sample, 4, None) == (sample, 0)
    with pytest.raises(hsi.HsiError, match=r"exclude 0\.999 leaves 1 of 500 valid pixels drawn; expected at least k"):
        without_outliers(sample, 4, 0.999)


def test_scores_in_a_file_are_let_go_of() -> None:
    """Block by block, each time they are read; the same answer."""
    points = np.random.default_rng(1).normal(size=(100_000, 3))
    valid = np.arange(len(points)) % 7 > 0
    points[777], points[70_001] = 1e3, -1e3
    asked_of: list[slice] = []
    far = outlying(points, valid, 50, asked_of.append)
    assert np.flatnonzero(far).tolist() == [n for n in (777, 70_001) if valid[n]]
    assert sum(at.stop - at.start for at in asked_of) >= 3 * len(points) and len(asked_of) == 3 * 4
