"""The FCLS kernel against solvers written by others, exact enumeration, real data, and itself in other batches."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import rasterio
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import fcls as bench
from hsichunk.kernels import fcls

Floats = npt.NDArray[np.float64]
ROOT = Path(__file__).resolve().parents[2]


def solve(
    gram: Floats, linear: Floats, valid: Any = None, table: fcls.Table | None = None, cap: int | None = None
) -> tuple[Floats, Floats, list[int]]:
    """Abundances, certificates and counts."""
    p, n = linear.shape
    valid = np.ones(n, np.bool_) if valid is None else valid
    abundance, kkt, stats = np.full((p, n), 7.0), np.full(n, 7.0), np.zeros(5, np.int64)
    fcls.solve(gram, linear, valid, table or fcls.new_table(p, cap), abundance, kkt, stats)
    return abundance, kkt, stats.tolist()


def drawn(p: int, n: int, cond: float | None = None, seed: int = 0) -> tuple[Floats, Floats]:
    """G and b of mixtures of reflectance-like endmembers, or of ones with a shifted Gram matrix of that condition."""
    rng = np.random.default_rng([p, seed])
    endmembers = bench.collinear(p, cond, rng) if cond else bench.spectra(p, rng)
    return bench.problem(endmembers, bench.mixtures(endmembers, n, rng))


def enumerated(gram: Floats, b: Floats) -> Floats:
    """The best of the feasible optima on all supports."""
    p = len(b)
    best, found = np.inf, np.zeros(p)
    for size in range(1, p + 1):
        for support in map(list, itertools.combinations(range(p), size)):
            system = np.ones((size + 1, size + 1))
            system[:size, :size] = gram[np.ix_(support, support)]
            system[size, size] = 0.0
            a = np.zeros(p)
            a[support] = np.linalg.solve(system, np.append(b[support], 1.0))[:size]
            value = 0.5 * a @ gram @ a - b @ a
            if (a >= 0.0).all() and value < best:
                best, found = value, a
    return found


def assert_on_simplex(abundance: Floats) -> None:
    assert (abundance >= 0.0).all()
    assert np.abs(abundance.sum(0) - 1.0).max() < 4e-15


CASES = [(2, None), (4, None), (8, None), (13, None), (14, None), (20, None), (30, None)]
NEAR = [(3, 1e6), (4, 1e3), (8, 1e4), (8, 1e6), (12, 1e5), (13, 1e6), (14, 1e6), (20, 1e6), (30, 1e3), (30, 1e6)]


@pytest.mark.parametrize(("p", "cond"), CASES + NEAR)
def test_agrees_with_active_set_solvers(p: int, cond: float | None) -> None:
    gram, linear = drawn(p, 60, cond)
    if cond:
        values = np.linalg.eigvalsh(gram)
        assert values[-1] / values[1] == pytest.approx(cond, rel=1e-6)  # the problem is as hard as it says
    abundance, kkt, stats = solve(gram, linear)
    assert_on_simplex(abundance)
    assert np.abs(abundance - bench.with_quadprog(gram, linear)).max() < 1e-9
    assert np.abs(abundance - bench.with_daqp(gram, linear)).max() < 1e-9
    assert np.abs(kkt).max() < 1e-11
    assert stats[fcls.PIXELS] == 60
    assert stats[fcls.FALLBACKS] == 0


@pytest.mark.parametrize(("p", "cond", "error"), [(4, None, 1e-7), (12, None, 1e-6), (30, None, 1e-6), (8, 1e4, 1e-6)])
def test_agrees_with_an_interior_point_solver(p: int, cond: float | None, error: float) -> None:
    gram, linear = drawn(p, 40, cond)
    assert np.abs(solve(gram, linear)[0] - bench.with_cvxopt(gram, linear)).max() < error


@pytest.mark.parametrize("cond", [None, 1e6])
@pytest.mark.parametrize("p", [2, 3, 5, 6])
def test_agrees_with_enumeration_of_supports(p: int, cond: float | None) -> None:
    gram, linear = drawn(p, 40, cond)
    abundance = solve(gram, linear)[0]
    oracle = np.array([enumerated(gram, b) for b in linear.T]).T
    assert np.abs(abundance - oracle).max() < 1e-9
    assert np.array_equal(abundance > 0.0, oracle > 0.0)


@pytest.mark.parametrize("p", [14, 62, 63, 100])
def test_many_endmembers(p: int) -> None:
    rng = np.random.default_rng(p)
    endmembers = rng.random((p, 300))
    gram, linear = bench.problem(endmembers, bench.mixtures(endmembers, 12, rng))
    abundance, kkt, stats = solve(gram, linear)
    assert np.abs(abundance - bench.with_quadprog(gram, linear)).max() < 1e-9
    assert kkt.max() < 1e-12
    assert stats[fcls.FALLBACKS] == 0


def test_samson(shared: Path) -> None:
    cube, endmembers, truth = (
        scipy.io.loadmat(shared / "samson" / f"{name}.mat")[name] for name in ("Y_clean", "E", "A_true")
    )
    assert cube.shape == (95, 95, 156) and endmembers.shape == (156, 3) and truth.shape == (95, 95, 3)
    gram, linear = bench.problem(endmembers.T, cube.reshape(-1, 156))
    abundance, _, stats = solve(gram, linear)
    assert np.abs(abundance - truth.reshape(-1, 3).T).max() < 1e-6
    assert stats[fcls.PIXELS] == 95 * 95


@pytest.mark.parametrize("library", ["DLR_HySU_HS_library.lib", "DLR_HySU_SVC.lib"])
def test_measured_targets_and_libraries(shared: Path, library: str) -> None:
    folder = shared / "dlr_hysu"
    with rasterio.open(folder / "DLR_HySU_HS_large_targets.tif") as file:
        pixels = file.read().reshape(file.count, -1).T / 1e4
    endmembers = np.fromfile(folder / library, np.float64).reshape(-1, 135) / 1e4
    assert endmembers.min() > 0.0 and endmembers.max() < 1.0
    gram, linear = bench.problem(endmembers, pixels)
    abundance, kkt, _ = solve(gram, linear)
    assert len(np.unique(abundance.T > 0.0, axis=0)) > 10
    assert np.abs(abundance - bench.with_quadprog(gram, linear)).max() < 1e-9
    assert kkt.max() < 1e-12


@pytest.mark.parametrize("p", [4, 12, 20])
def test_pixels_of_a_neon_tile(shared: Path, p: int) -> None:
    with h5py.File(shared / "neon_sjer" / "NEON_D17_SJER_DP3_257000_4112000_reflectance_crop30.h5") as file:
        counts = file["SJER/Reflectance/Reflectance_Data"][...].reshape(900, 426)
        nm = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][...]
    wet = ((nm > 1340) & (nm < 1445)) | ((nm > 1790) & (nm < 1955))
    wet[-10:] = True
    pixels = counts[:, ~wet] / 1e4
    chosen = [int(pixels.sum(1).argmax())]
    while len(chosen) < p:  # the pixel farthest from those chosen: real, and far from orthogonal
        chosen.append(int(((pixels[:, None] - pixels[chosen]) ** 2).sum(2).min(1).argmax()))
    gram, linear = bench.problem(pixels[chosen], pixels)
    abundance, kkt, _ = solve(gram, linear)
    some = slice(None, None, 9)
    assert np.abs(abundance[:, some] - bench.with_quadprog(gram, linear[:, some])).max() < 1e-9
    assert np.abs(abundance[:, chosen] - np.eye(p)).max() < 1e-9
    assert kkt.max() < 1e-12


@pytest.mark.parametrize("cond", [None, 1e6])
@pytest.mark.parametrize("p", [2, 4, 9, 13, 14, 20])
def test_ties_and_vertices(p: int, cond: float | None) -> None:
    rng = np.random.default_rng(p)
    endmembers = bench.collinear(p, cond, rng) if cond else bench.spectra(p, rng)
    truth = np.vstack([np.eye(p), (np.eye(p) + np.eye(p)[0]) / 2, np.full((1, p), 1 / p)])
    gram, linear = bench.problem(endmembers, truth @ endmembers)
    abundance, kkt, stats = solve(gram, linear)
    assert_on_simplex(abundance)
    assert np.abs(abundance - truth.T).max() < 1e-8
    assert np.abs(kkt).max() < 1e-11
    assert stats[fcls.FALLBACKS] == 0


def test_pixels_far_outside_go_to_a_face() -> None:
    rng = np.random.default_rng(3)
    for p in (3, 6, 13, 15):
        endmembers = bench.spectra(p, rng)
        pixels = np.vstack([endmembers * 1e3, -endmembers * 1e6, rng.normal(size=(50, 120)) * 1e4, np.zeros((1, 120))])
        gram, linear = bench.problem(endmembers, pixels)
        abundance, _, stats = solve(gram, linear)
        assert_on_simplex(abundance)
        rounding = 1e-11 * (1.0 + np.abs(linear).max(0))  # of the oracle, which leaves 1e-9 where we find zeros
        assert (np.abs(abundance - bench.with_quadprog(gram, linear)).max(0) < rounding).all()
        assert stats[fcls.FALLBACKS] == 0


def test_one_endmember_is_all_of_every_pixel() -> None:
    abundance, kkt, stats = solve(np.zeros((1, 1)), np.array([[-3.0, 0.0, 5.0]]))
    assert abundance.tolist() == [[1.0, 1.0, 1.0]] and kkt.tolist() == [0.0, 0.0, 0.0]
    assert stats == [3, 0, 0, 0, 0]


def test_pixels_that_are_not_valid_or_not_finite_are_nan() -> None:
    gram, linear = drawn(5, 600)
    linear[2, 7], linear[0, 300], linear[4, 301] = np.nan, np.inf, -np.inf
    clean = solve(gram, drawn(5, 600)[1])
    valid = np.ones(600, np.bool_)
    valid[[0, 255, 256, 599]] = False
    lost = ~valid
    lost[[7, 300, 301]] = True
    for cap in (None, 0):
        expected = clean[0] if cap is None else solve(gram, drawn(5, 600)[1], cap=0)[0]
        for mask in (valid, valid.view(np.uint8)):
            abundance, kkt, stats = solve(gram, linear, mask, cap=cap)
            assert np.isnan(abundance[:, lost]).all() and np.isnan(kkt[lost]).all()
            assert np.array_equal(abundance[:, ~lost], expected[:, ~lost])
            assert stats[fcls.PIXELS] == 593
    assert solve(gram, linear[:, :0])[2] == [0, 0, 0, 0, 0]


@pytest.mark.parametrize(("p", "cond"), [(1, None), (4, None), (8, 1e6), (13, 1e5), (20, None), (30, 1e6)])
def test_forced_fallback_agrees(p: int, cond: float | None) -> None:
    gram, linear = (np.zeros((1, 1)), np.ones((1, 5))) if p == 1 else drawn(p, 100, cond)
    abundance, _, stats = solve(gram, linear)
    other, kkt, counts = solve(gram, linear, cap=0)
    assert_on_simplex(other)
    assert np.abs(abundance - other).max() < 1e-9
    assert kkt.max() < 1e-13
    assert counts[fcls.FALLBACKS] == counts[fcls.PIXELS] == stats[fcls.PIXELS]
    assert stats[fcls.FALLBACKS] == 0


def test_a_low_cap_sends_the_hard_pixels_to_the_fallback() -> None:
    gram, linear = drawn(8, 500, 1e6)
    abundance, _, stats = solve(gram, linear)
    other, _, counts = solve(gram, linear, cap=3)
    assert 0 < counts[fcls.FALLBACKS] < 500 and stats[fcls.MOST_PIVOTS] > 3
    assert np.abs(abundance - other).max() < 1e-9


def test_counts_add_up() -> None:
    gram, linear = drawn(6, 700)
    valid, table = np.ones(350, np.bool_), fcls.new_table(6)
    stats, kkt, abundance = np.zeros(5, np.int64), np.empty(350), np.empty((6, 350))
    for part in (linear[:, :350], linear[:, 350:]):
        fcls.solve(gram, part, valid, table, abundance, kkt, stats)
    assert stats.tolist() == solve(gram, linear)[2]
    assert stats[fcls.PIXELS] == 700 and stats[fcls.PIVOTS] > 100 and 1 < stats[fcls.MOST_PIVOTS] < 20


@pytest.mark.parametrize(("p", "cond"), [(4, None), (8, 1e6), (12, None), (16, 1e4)])
def test_batches_do_not_change_a_bit(p: int, cond: float | None) -> None:
    n = 700
    gram, linear = drawn(p, n, cond)
    abundance, kkt, _ = solve(gram, linear)
    table = fcls.new_table(p)
    order = np.random.default_rng(0).permutation(n)
    shuffled = solve(gram, np.ascontiguousarray(linear[:, order]), table=table)
    assert np.array_equal(shuffled[0], abundance[:, order]) and np.array_equal(shuffled[1], kkt[order])
    solve(drawn(p, 9, cond, seed=1)[0], linear, table=table)  # maps of another matrix in between
    for part in (slice(0, 1), slice(5, 300), slice(299, n), slice(3, n, 7)):
        for view in (np.ascontiguousarray(linear[:, part]), linear[:, part]):
            warm = solve(gram, view, table=table)
            assert np.array_equal(warm[0], abundance[:, part]) and np.array_equal(warm[1], kkt[part])
    threads, results = [], {}
    for part in (slice(0, 333), slice(333, n)):

        def work(part: slice = part) -> None:
            results[part.start] = solve(gram, linear[:, part])[0]

        threads.append(threading.Thread(target=work))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert np.array_equal(np.hstack([results[0], results[333]]), abundance)


DIGEST = """
import hashlib, numpy as np
from hsichunk.kernels import fcls
drawn = np.random.default_rng(7).random((3, 60, 300))
total = hashlib.sha256()
for p in (4, 8, 15):
    e = drawn[0, :p] ** 2 - drawn[1, :p]
    gram = np.array([[float((np.rint(u * 64) * np.rint(v * 64)).sum()) for v in e] for u in e]) / p
    linear = np.rint(drawn[2, :p] * 4096) / 32
    abundance, kkt, stats = np.empty((p, 300)), np.empty(300), np.zeros(5, np.int64)
    fcls.solve(gram, linear, np.ones(300, np.bool_), fcls.new_table(p), abundance, kkt, stats)
    total.update(abundance.tobytes() + kkt.tobytes() + stats.tobytes())
print(total.hexdigest())
"""


def test_other_processors_give_the_same_bits() -> None:
    """numba for any x86-64 or ARM processor, without wide vectors or fused operations, against this one."""

    def digest(**environment: str) -> str:
        command = [sys.executable, "-c", DIGEST]
        return subprocess.run(
            command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=True
        ).stdout

    assert digest(NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="") == digest()


@settings(max_examples=300)
@given(st.data())
def test_conditions_of_the_optimum_hold(data: st.DataObject) -> None:
    """Small whole numbers: ties, equal and dependent endmembers are common."""
    p = data.draw(st.integers(1, 16), label="p")
    bands = data.draw(st.integers(1, 6) | st.just(40), label="bands")
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32), label="seed"))
    high = data.draw(st.sampled_from([2, 5, 10000]), label="largest")
    endmembers = rng.integers(0, high, (p, bands)).astype(float)
    pixels = rng.integers(-high, 2 * high, (20, bands)) * data.draw(st.sampled_from([1.0, 1e-3, 1e4]), label="factor")
    shifted = endmembers - endmembers.mean(0)
    gram, linear = shifted @ shifted.T, np.ascontiguousarray(shifted @ (pixels - endmembers.mean(0)).T)
    for cap in (None, 0):
        abundance, kkt, stats = solve(gram, linear, cap=cap)
        assert_on_simplex(abundance)
        slope = gram @ abundance - linear
        size = gram.diagonal().max() + np.abs(linear).max(0)
        gap = np.where(abundance > 0.0, slope, -np.inf).max(0) - slope.min(0)
        assert (gap <= 1e-11 * size).all()
        assert np.allclose(kkt, gap / (gram.diagonal().max() or 1.0), rtol=0, atol=1e-13 * size.max())
        assert stats[fcls.PIXELS] == 20


def test_certificate_tells_a_wrong_answer() -> None:
    """kkt is computed from the answer given, not assumed: with a table whose map is spoilt it is large."""
    gram, linear = drawn(3, 50)
    table = fcls.new_table(3)
    solve(gram, linear, table=table)
    table.maps[-1, 0, 3, 0] += 0.1  # the constant of the first abundance on the full support
    assert solve(gram, linear, table=table)[1].max() > 1e-3


def test_dependent_endmembers_are_named() -> None:
    rng = np.random.default_rng(0)
    endmembers = bench.spectra(7, rng)

    def groups(values: Floats) -> list[list[int]] | None:
        shifted = values - values.mean(0)
        return fcls.dependent(shifted @ shifted.T)

    assert groups(endmembers) is None
    assert groups(endmembers[:1]) is None
    assert fcls.dependent(drawn(30, 2, 1e6)[0]) is None
    equal = endmembers.copy()
    equal[5] = equal[2]
    assert groups(equal) == [[2, 5]]
    equal[6] = equal[2]
    assert groups(equal) == [[2, 5, 6]]
    assert groups(np.repeat(endmembers[:1], 2, axis=0)) == [[0, 1]]
    mixed = endmembers.copy()
    mixed[4] = 0.3 * mixed[0] + 0.7 * mixed[3]
    assert groups(mixed) == [[0, 3, 4]]
    mixed[6] = mixed[5]
    assert groups(mixed) == [[5, 6], [0, 3, 4]]
    plane = endmembers.copy()
    plane[1] = plane[2] + plane[5] - plane[6]
    assert groups(plane) == [[1, 2, 5, 6]]
    scaled = endmembers.copy()
    scaled[1] = 2.0 * scaled[0]  # on a line with 0, but no mixture of the others
    assert groups(scaled) is None


def test_dependent_endmembers_still_end_on_an_optimum() -> None:
    gram, linear = drawn(6, 50)
    twice = [0, 1, 2, 3, 4, 5, 2]
    abundance, kkt, stats = solve(gram[np.ix_(twice, twice)], linear[twice])
    assert stats[fcls.FALLBACKS] == 50 and kkt.max() < 1e-12
    abundance[2] += abundance[6]
    assert np.abs(abundance[:6] - solve(gram, linear)[0]).max() < 1e-9


@pytest.mark.parametrize("p", [1, 4, 12, 13, 30, 62])
def test_tables_stay_below_sixteen_mebibytes(p: int) -> None:
    assert sum(array.nbytes for array in fcls.new_table(p)) <= 16 * 2**20


def test_kernels_import_neither_labels_nor_files() -> None:
    code = "import sys, hsichunk.kernels.fcls; print({'xarray', 'dask', 'h5py', 'rasterio'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


def test_benchmark_runs_small(capsys: pytest.CaptureFixture[str]) -> None:
    bench.main(["--small"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(bench.SIZES) * len(bench.SOLVERS)
    cells = [line.split() for line in lines[1:] if "not installed" not in line]
    assert all(float(row[3]) > 0.0 for row in cells)
    assert all(float(row[5]) < 1e-6 for row in cells if row[1] in ("hsichunk", "quadprog", "daqp"))
