"""The plan: pure arithmetic that keeps its budget, and says what it would take."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hsichunk.errors import HsiError
from hsichunk.run import plan
from hsichunk.run.plan import MB, Layout, Plan

SPATIAL = Layout(1000, 1000, (32, 63, 27), 14, 362)
BANDS = Layout(1000, 1000, (1000, 1000, 1), 362, 362)


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    rows, cols = draw(st.integers(1, 3000)), draw(st.integers(1, 3000))
    depth, count = draw(st.integers(1, 426)), draw(st.integers(2, 426))
    chunks = draw(st.integers(1, rows)), draw(st.integers(1, cols)), min(depth, count)
    kept = draw(st.integers(1, -(-count // chunks[2])))
    return Layout(rows, cols, chunks, kept, count, draw(st.sampled_from([2, 4])))


sites = st.lists(layouts(), min_size=1, max_size=3)
jobs = st.tuples(st.integers(2, 254), st.integers(1, 64), st.integers(1, 50_000))


def make(budget: int, site: list[Layout], job: tuple[int, int, int]) -> Plan:
    p, threads, sample = job
    return plan.make(budget, site, p, threads, sample=sample)


@given(sites, jobs, st.integers(10**8, 10**11))
def test_a_plan_keeps_its_budget_or_names_one_that_is_enough(
    site: list[Layout], job: tuple[int, int, int], budget: int
) -> None:
    try:
        made = make(budget, site, job)
    except HsiError as error:
        enough = re.search(r"give at least --memory (\d+)MB", str(error))
        assert enough is not None
        assert int(enough[1]) * MB > budget
        made = make(int(enough[1]) * MB, site, job)
        with pytest.raises(HsiError):
            make((int(enough[1]) - 1) * MB - 1, site, job)
        assert made.peak <= int(enough[1]) * MB
    else:
        assert made.peak <= budget
    assert made.peak >= max(made.sample, made.maps, made.program)
    assert made.decodes >= 1
    assert made.strip_rows >= 1


@given(sites, jobs, st.integers(10**8, 10**10), st.integers(0, 10**10))
def test_more_memory_never_means_more_decodes(
    site: list[Layout], job: tuple[int, int, int], budget: int, more: int
) -> None:
    try:
        tight = make(budget, site, job)
    except HsiError:
        return
    roomy = make(budget + more, site, job)
    assert roomy.decodes <= tight.decodes
    assert roomy.pass_rows >= tight.pass_rows
    assert roomy.once == tight.once
    assert make(roomy.once, site, job).decodes == 1
    if roomy.decodes > 1:
        assert roomy.budget < roomy.once


@given(sites, jobs)
@settings(max_examples=50)
def test_passes_cover_every_column_in_as_many_decodes_as_said(site: list[Layout], job: tuple[int, int, int]) -> None:
    for budget in (3 * 10**8, 6 * 10**8, 10**9, 10**10):
        try:
            made = make(budget, site, job)
        except HsiError:
            continue
        for layout in site:
            if not layout.small:
                assert -(-layout.high // made.pass_rows) <= made.decodes


@pytest.mark.parametrize("layout", [SPATIAL, BANDS], ids=["spatial", "bands"])
@pytest.mark.parametrize("budget", [512 * MB, 1000 * MB, 2000 * MB])
def test_a_tile_is_decoded_once_in_half_a_gigabyte(layout: Layout, budget: int) -> None:
    made = plan.make(budget, [layout], 4, 2, sample=20_000)
    assert made.decodes == 1
    assert made.peak <= budget


def test_the_numbers_of_a_band_chunked_tile() -> None:
    made = plan.make(2000 * MB, [BANDS], 4, 2, sample=20_000)
    assert made.pass_rows == 1000
    assert made.sums == 1000 * 1000 * (15 * 8 + 1)  # 3 p + 3 sums in float64 and a byte for no-data
    assert made.columns == 1
    assert made.strip_rows == 250


def test_columns_are_counted() -> None:
    assert plan.make(2000 * MB, [SPATIAL], 4, 2, sample=20_000).columns == 32 * 16


def test_sums_that_do_not_fit_mean_more_decodes_and_say_so() -> None:
    p = 30
    once = plan.make(10**10, [BANDS], p, 2, sample=20_000)
    assert once.decodes == 1
    assert once.sums == 1000 * 1000 * (93 * 8 + 1)
    tight = plan.make(800 * MB, [BANDS], p, 2, sample=20_000)
    assert tight.decodes > 1
    assert tight.pass_rows == -(-1000 // tight.decodes)
    assert plan.make(tight.once - 1, [BANDS], p, 2, sample=20_000).decodes > 1


def test_the_fewest_decodes_come_before_all_that_is_held_at_a_time() -> None:
    once = plan.make(10**10, [BANDS], 4, 2, sample=20_000)
    tight = plan.make(once.once, [BANDS], 4, 2, sample=20_000)
    assert (tight.decodes, once.decodes) == (1, 1)
    assert tight.together < once.together
    assert tight.strip_rows < once.strip_rows


def test_a_refusal_gives_its_numbers_in_one_line() -> None:
    with pytest.raises(HsiError) as refused:
        plan.make(100 * MB, [BANDS], 4, 2, sample=20_000)
    text = str(refused.value)
    assert "\n" not in text
    assert "--memory 100MB" in text
    assert "for 2 threads" in text
    assert "sums of 25 rows" in text


def test_the_sample_weighs_by_its_pixels_bands_and_endmembers() -> None:
    def sample(pixels: int, bands: int, p: int) -> int:
        return plan.make(10**11, [Layout(1000, 1000, (32, 63, 27), 14, bands)], p, 2, sample=pixels).sample

    base = sample(20_000, 362, 4) - plan.SEARCHING
    assert base > 20_000 * 362 * 10  # counts and a float64 copy
    assert sample(40_000, 362, 4) - plan.SEARCHING > 1.7 * base
    assert sample(20_000, 362, 254) > 20_000 * 254 * 8 * 6


def test_mixed_layouts_are_planned_for_the_hungriest() -> None:
    alone = [plan.make(10**10, [layout], 4, 2, sample=20_000) for layout in (SPATIAL, BANDS)]
    mixed = plan.make(10**10, [SPATIAL, BANDS], 4, 2, sample=20_000)
    assert mixed.peak == max(one.peak for one in alone)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 254))
def test_stored_chunks_do_not_depend_on_memory_and_stay_handy(rows: int, cols: int, p: int) -> None:
    high, wide = plan.zarr_chunk(rows, cols, p)
    assert 1 <= high <= min(rows, 250)
    assert 1 <= wide <= min(cols, 1000)
    assert high * wide * 4 * p <= plan.ZARR_CHUNK or high <= 62


def test_geotiffs_of_many_endmembers_and_of_many_tiles_take_more() -> None:
    def maps(p: int, image: tuple[int, int]) -> int:
        return plan.make(10**11, [SPATIAL], p, 2, sample=20_000, image=image).maps - plan.MAPPING

    # (endmembers, side): what writing took, measured in MB
    for (p, side), took in {(4, 1000): 55, (12, 1000): 138, (30, 1000): 151, (4, 6000): 49}.items():
        assert took * MB <= maps(p, (side, side)) <= 2.2 * took * MB
    assert maps(4, (3000, 3000)) == maps(4, (30_000, 30_000))  # whatever the number of tiles
