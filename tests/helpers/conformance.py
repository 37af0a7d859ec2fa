"""What `ChunkedArray` promises, checked of any implementation.

A test of a new storage says how an array of it is made, in an empty folder, and runs

    conformance.run(make, tmp_path)

or, to see each check by name, is parametrised over `CHECKS` and calls `check(make(tmp_path))`.
"""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from dask.base import tokenize
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from hsichunk.chunks.array import ChunkedArray
from hsichunk.chunks.decoded_cache import ChunkCoords, KeptChunks
from hsichunk.chunks.derived import DerivedArray
from hsichunk.errors import CorruptChunk, HsiError
from tests.helpers.tiles import Counter


@dataclass(frozen=True)
class Damage:
    """A chunk that cannot be decoded."""

    coords: ChunkCoords
    """of the array's own chunk that needs it"""
    pixels: NDArray[np.bool_]
    """(rows, columns) that lie under it"""
    named: str
    """what the error says of the chunk"""


@dataclass(frozen=True)
class Storage:
    """An array on trial: small, of more chunks than one, of a shape that is no multiple of them."""

    open: Callable[[], ChunkedArray]
    """opens what is stored now"""
    truth: NDArray[Any]
    """the values (y, x, band) as another reader has them"""
    change: Callable[[], None]
    """stores other values in place of these, as a program would that runs meanwhile"""
    damage: Callable[[], Damage] | None
    """makes a chunk impossible to decode; None where no chunk of the storage can be"""


Check = Callable[[Storage], None]
Maker = Callable[[Path], Storage]


def run(make: Maker, folder: Path) -> None:
    """All checks, each of an array of its own. AssertionError for the first that fails."""
    for check in CHECKS:
        own = folder / check.__name__
        own.mkdir()
        check(make(own))


def everything(array: ChunkedArray) -> tuple[NDArray[np.intp], ...]:
    return tuple(np.arange(n) for n in array.shape)


def all_coords(array: ChunkedArray) -> list[ChunkCoords]:
    return list(np.ndindex(*array.grid))


def chunk(array: ChunkedArray, coords: ChunkCoords) -> NDArray[Any]:
    with array.opened() as handle:
        return array.chunk(handle, coords)


def same(array: ChunkedArray, truth: NDArray[Any]) -> None:
    """All values, read, are these."""
    found = array.read(*everything(array))
    assert found.dtype == array.native
    assert_array_equal(found, truth)


def layout(storage: Storage) -> None:
    """Path, name, shape, types and the grid of chunks; opening decodes nothing."""
    with Counter() as decoded:
        array = storage.open()
    assert decoded.chunks == 0
    assert isinstance(array, ChunkedArray)
    assert isinstance(array.path, str) and array.path and isinstance(array.name, str) and array.name
    assert array.shape == storage.truth.shape and all(type(n) is int for n in array.shape)
    assert array.native.isnative and array.native == array.dtype.newbyteorder("=")
    assert array.native == storage.truth.dtype.newbyteorder("=")
    assert len(array.chunks) == len(array.shape) and all(type(n) is int and n >= 1 for n in array.chunks)
    assert array.grid == tuple(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
    assert array.chunk_bytes == np.prod(array.chunks) * array.dtype.itemsize
    assert array.stored_chunks in (None, array.chunks)
    assert array.fill is None or (array.fill.shape == () and array.fill.astype(array.native) == array.fill)
    assert len(array.stamp) == 2 and all(type(n) is int for n in array.stamp)
    assert array.stored_bytes > 0 and type(array.direct) is bool


def chunks_and_edges(storage: Storage) -> None:
    """Whole chunks of native values that make up the array; what sticks out of it is fill."""
    array = storage.open()
    whole = np.zeros([n * c for n, c in zip(array.grid, array.chunks, strict=True)], array.native)
    with array.opened() as handle:
        for coords in all_coords(array):
            part = array.chunk(handle, coords)
            assert part.shape == array.chunks and part.dtype == array.native and part.dtype.isnative
            assert part.flags.c_contiguous
            whole[tuple(slice(p * c, (p + 1) * c) for p, c in zip(coords, array.chunks, strict=True))] = part
    inside = tuple(slice(n) for n in array.shape)
    assert_array_equal(whole[inside], storage.truth)
    if array.fill is not None:
        outside = np.ones(whole.shape, np.bool_)
        outside[inside] = False
        assert (whole[outside] == array.fill).all()


def chunks_are_counted(storage: Storage) -> None:
    """Each call of `decode` counts in DECODED, here or in the arrays that it asks."""
    array = storage.open()
    with Counter() as decoded, array.opened() as handle:
        for coords in all_coords(array)[:2]:
            array.decode(handle, coords)
    assert decoded.chunks >= 2 and decoded.bytes > 0


def reading(storage: Storage) -> None:
    """Any positions in any order, on any number of threads; nothing decodes nothing."""
    array, truth = storage.open(), storage.truth
    same(array, truth)
    rng = np.random.default_rng(1)
    scattered = [rng.integers(0, n, 7) for n in array.shape]
    backwards = [np.arange(n)[::-2] for n in array.shape]
    single = [np.array([n - 1]) for n in array.shape]
    for at, threads in itertools.product((scattered, backwards, single), (1, 3, None)):
        found = array.read(*at, threads=threads)
        assert found.dtype == array.native
        assert_array_equal(found, truth[np.ix_(*at)])
    with Counter() as decoded:
        empty = array.read(np.arange(0), *everything(array)[1:])
    assert empty.shape == (0, *array.shape[1:]) and decoded.chunks == 0


def pickling(storage: Storage) -> None:
    """A copy reads the same, before anything was read and after; kept chunks and locks stay behind."""
    array = storage.open()
    early = pickle.loads(pickle.dumps(array))
    same(early, storage.truth)
    same(array, storage.truth)
    array.kept = KeptChunks(1 << 30)
    chunk(array, (0,) * len(array.shape))
    late = pickle.loads(pickle.dumps(array))
    assert type(late) is type(array) and late.kept is None
    for copy in (early, late):
        assert (copy.shape, copy.dtype, copy.chunks, copy.stamp) == (
            array.shape,
            array.dtype,
            array.chunks,
            array.stamp,
        )
        assert tokenize(copy) == tokenize(array)
    same(late, storage.truth)


def a_changed_file_is_refused(storage: Storage) -> None:
    """Whatever reads it, also a copy from before; what is opened anew is another array."""
    array = storage.open()
    same(array, storage.truth)
    copy = pickle.loads(pickle.dumps(array))
    storage.change()
    pixel = np.array([0])
    for stale in (array, copy):
        for read in (
            lambda stale=stale: stale.read(*everything(stale)),
            lambda stale=stale: stale.gather(np.arange(stale.shape[2]), pixel, pixel, 1),
            lambda stale=stale: stale.gather(np.arange(stale.shape[2]), pixel, pixel, 1, np.zeros(1, np.bool_)),
            lambda stale=stale: chunk(stale, (0,) * len(stale.shape)),
        ):
            with pytest.raises(HsiError) as caught:
                read()
            assert not isinstance(caught.value, CorruptChunk), "the file has changed, no chunk is corrupt"
            assert "changed" in str(caught.value) and "\n" not in str(caught.value)
    again = storage.open()
    assert again.stamp != array.stamp and tokenize(again) != tokenize(array)
    assert again.read(*everything(again)).shape == again.shape


def threads(storage: Storage) -> None:
    """Many threads, each opening for itself, get the same bits."""
    array = storage.open()
    found: list[NDArray[Any]] = []
    barrier = threading.Barrier(6)

    def work(number: int) -> None:
        barrier.wait()
        if number % 2:
            found.append(array.read(*everything(array), threads=2))
        else:
            pieces = np.zeros(array.shape, array.native)
            with array.opened() as handle:
                for coords in all_coords(array)[:: -1 if number % 4 else 1]:
                    window = tuple(slice(p * c, (p + 1) * c) for p, c in zip(coords, array.chunks, strict=True))
                    part = array.chunk(handle, coords)
                    pieces[window] = part[tuple(slice(n) for n in pieces[window].shape)]
            found.append(pieces)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 6
    for values in found:
        assert_array_equal(values, storage.truth)


def gathering(storage: Storage) -> None:
    """Single pixels in some bands, in any order, with and without `bad`, which nothing sound sets."""
    array, truth = storage.open(), storage.truth
    rng = np.random.default_rng(2)
    rows, cols = (rng.integers(0, n, 60) for n in array.shape[:2])
    everywhere = np.arange(array.shape[2])
    for bands, number in itertools.product((everywhere, everywhere[::3], everywhere[-1:]), (1, 3)):
        expected = truth[rows, cols][:, bands]
        found = array.gather(bands, rows, cols, number)
        assert found.dtype == array.native
        assert_array_equal(found, expected)
        bad = np.zeros(len(rows), np.bool_)
        assert_array_equal(array.gather(bands, rows, cols, number, bad), expected)
        assert not bad.any()
    nothing = np.arange(0)
    with Counter() as decoded:
        assert array.gather(everywhere, nothing, nothing, 1).shape == (0, len(everywhere))
    assert decoded.chunks == 0
    with Counter() as decoded:
        array.gather(everywhere[:1], np.zeros(5, np.intp), np.zeros(5, np.intp), 1)
    assert 1 <= decoded.chunks <= 2, "pixels of one chunk decode it once"  # two where a band lies between two others


def a_corrupt_chunk(storage: Storage) -> None:
    """It is named, costs no chunk beside it, and `gather` marks its pixels and no others."""
    if storage.damage is None:
        return
    damage = storage.damage()
    array = storage.open()
    with pytest.raises(CorruptChunk) as caught:
        chunk(array, damage.coords)
    message = str(caught.value)
    assert damage.named in message and "\n" not in message
    with pytest.raises(CorruptChunk):
        array.read(*everything(array))
    for coords in all_coords(array):
        down, across = (slice(p * c, (p + 1) * c) for p, c in zip(coords[:2], array.chunks[:2], strict=True))
        if not damage.pixels[down, across].any():
            assert chunk(array, coords).shape == array.chunks
    rng = np.random.default_rng(3)
    rows, cols = (part.ravel() for part in np.indices(array.shape[:2]))
    order = rng.permutation(len(rows))
    rows, cols = rows[order], cols[order]
    bands = np.arange(array.shape[2])
    inside = bands[bands // array.chunks[2] == damage.coords[2]]
    for asked, number in itertools.product((inside, bands), (1, 3)):
        with pytest.raises(CorruptChunk):
            array.gather(asked, rows, cols, number)
        bad = np.zeros(len(rows), np.bool_)
        found = array.gather(asked, rows, cols, number, bad)
        assert_array_equal(bad, damage.pixels[rows, cols])
        assert_array_equal(found[~bad], storage.truth[rows, cols][:, asked][~bad])


def tokens(storage: Storage) -> None:
    """dask's token and what stands for the values in run.json are the same for every opening."""
    one, two = storage.open(), storage.open()
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        assert tokenize(one) == tokenize(two)
    same(one, storage.truth)
    assert tokenize(one) == tokenize(two)
    assert isinstance(one.identity(), bytes) and one.identity() == two.identity() != b""
    if isinstance(one, DerivedArray):
        assert tokenize(one) != tokenize(one.base)


def announcing(storage: Storage) -> None:
    """What is announced, or not, or twice, or in vain, changes no value; `jobs` leaves out no chunk."""
    array = storage.open()
    wanted = all_coords(array)
    expected = [chunk(array, coords) for coords in wanted]
    for said in ([], wanted, wanted[::-1], wanted[:1] * 2, wanted[1::2]):
        with array.opened() as handle:
            array.announce(handle, iter(said))
            for coords, values in zip(wanted[::-1], expected[::-1], strict=True):
                assert_array_equal(array.chunk(handle, coords), values)
    for order in (wanted, wanted[::-1], wanted[:1], []):
        jobs = list(array.jobs(iter(order)))
        assert [coords for job in jobs for coords in job] == order and all(jobs)


def keeping(storage: Storage) -> None:
    """A kept chunk is decoded once; who takes it is the last that has it."""
    array = storage.open()
    coords, other = all_coords(array)[0], all_coords(array)[-1]
    array.kept = KeptChunks(array.chunk_bytes)  # room for one
    with array.opened() as handle:
        first = array.chunk(handle, coords)
        with Counter() as decoded:
            assert array.chunk(handle, coords) is first
            assert array.last_chunk(handle, coords) is first
        assert decoded.chunks == 0 and array.kept.chunks == 2
        assert array.kept.look(coords) is None
        again = array.last_chunk(handle, coords)
        assert again is not first
        assert_array_equal(again, first)
        array.chunk(handle, other)
        assert array.kept.look(other) is None, "there is no more room"
    array.kept = None
    with array.opened() as handle:
        assert_array_equal(array.last_chunk(handle, coords), first)
    same(array, storage.truth)


def preparing(storage: Storage) -> None:
    """What HDF5 is needed for can be had at once, and again; sound chunks pass the check."""
    array = storage.open()
    for _ in range(2):
        array.prepare()
        array.check(0 if array.fill is None else int(array.fill))
    same(array, storage.truth)


CHECKS: tuple[Check, ...] = (
    layout,
    chunks_and_edges,
    chunks_are_counted,
    reading,
    pickling,
    a_changed_file_is_refused,
    threads,
    gathering,
    a_corrupt_chunk,
    tokens,
    announcing,
    keeping,
    preparing,
)
