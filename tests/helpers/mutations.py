"""Damaged tiles by the thousand: seeded mutations of a small valid one, each through the command line.

`python -m tests.mutations --count 1000 --seed 1` runs as many and prints what came of them, kind by kind.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SHAPE, BANDS = (48, 40), 30
LAYOUTS = {"spatial": (16, 13, 9), "band": (48, 40, 1)}
PIECE = 3.0  # seconds for the metadata of a tile
LIMIT = 60.0  # seconds for a run: far more than it takes, the machine may be busy

Rng = np.random.Generator


def write_source(folder: Path, layout: str) -> Path:
    """The valid tile; another layout holds the same counts."""
    from hsichunk.synthetic.tile import write_tile

    path = folder / f"{layout}.h5"
    if not path.exists():
        product = "DP3.002" if layout == "band" else "DP3.001"
        write_tile(path, shape=SHAPE, bands=BANDS, chunks=LAYOUTS[layout], product=product, seed=5, k=3)
    return path


# ------------------------------------------------------------------------------------------------- bytes


@cache
def chunk_ranges(path: Path) -> dict[str, list[tuple[int, int]]]:
    """(first byte, bytes) of every chunk of every dataset."""
    found: dict[str, list[tuple[int, int]]] = {}

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.chunks:
            ranges = found.setdefault(name, [])
            node.id.chunk_iter(lambda info: ranges.append((info.byte_offset, info.size)))

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def _counts(path: Path) -> list[tuple[int, int]]:
    return next(ranges for name, ranges in chunk_ranges(path).items() if name.endswith("Reflectance_Data"))


@cache
def metadata_bytes(path: Path) -> Any:
    """Positions of all bytes outside chunks."""
    free = np.ones(path.stat().st_size, bool)
    for ranges in chunk_ranges(path).values():
        for start, size in ranges:
            free[start : start + size] = False
    return np.flatnonzero(free)


def _flip(rng: Rng, raw: bytearray, at: Any) -> None:
    for position in rng.choice(at, rng.integers(1, 9)):
        raw[position] ^= 1 << rng.integers(8)


def _overwrite(rng: Rng, raw: bytearray, start: int, size: int) -> None:
    size = min(size, len(raw) - start)
    raw[start : start + size] = [bytes(size), b"\xff" * size, rng.bytes(size)][rng.integers(3)]


def metadata_bits(rng: Rng, source: Path, raw: bytearray) -> None:
    _flip(rng, raw, metadata_bytes(source))


def header_bits(rng: Rng, source: Path, raw: bytearray) -> None:
    """Where the bits say something: within 64 bytes of one that is not zero."""
    at = metadata_bytes(source)
    spoken = at[np.frombuffer(raw, np.uint8)[at] != 0]
    _flip(rng, raw, np.array([p + rng.integers(64) for p in rng.choice(spoken, 8) if p + 64 < len(raw)]))


def metadata_run(rng: Rng, source: Path, raw: bytearray) -> None:
    start = int(rng.choice(metadata_bytes(source)))
    _overwrite(rng, raw, start, int(2 ** rng.uniform(0, 10)))


def texts_zeroed(rng: Rng, source: Path, raw: bytearray) -> None:
    """In a heap of texts, over whose zeros HDF5 loops for ever."""
    heaps = [found.start() for found in re.finditer(b"GCOL", raw)]
    start, size = int(rng.choice(heaps)) + int(rng.integers(0, 400)), int(2 ** rng.uniform(4, 12))
    raw[start : start + size] = bytes(len(raw[start : start + size]))


def heap_run(rng: Rng, source: Path, raw: bytearray) -> None:
    """In or after what tells where things are: heaps, B-trees, tables of symbols."""
    heaps = [found.start() for found in re.finditer(b"GCOL|HEAP|TREE|SNOD", raw)]
    _overwrite(rng, raw, int(rng.choice(heaps)) + int(rng.integers(0, 600)), int(2 ** rng.uniform(2, 12)))


def chunk_bits(rng: Rng, source: Path, raw: bytearray) -> None:
    start, size = _counts(source)[rng.integers(len(_counts(source)))]
    _flip(rng, raw, np.arange(start, start + size))


def chunk_run(rng: Rng, source: Path, raw: bytearray) -> None:
    start, size = _counts(source)[rng.integers(len(_counts(source)))]
    first = int(rng.integers(size))
    _overwrite(rng, raw, start + first, min(size - first, int(2 ** rng.uniform(0, 10))))


def truncation(rng: Rng, source: Path, raw: bytearray) -> None:
    del raw[int(rng.integers(len(raw))) :]


def holes(rng: Rng, source: Path, raw: bytearray) -> None:
    """A download with parts missing."""
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(len(raw))) // 512 * 512
        raw[start : start + 4096] = bytes(len(raw[start : start + 4096]))


BYTES: dict[str, Callable[[Rng, Path, bytearray], None]] = {
    f.__name__.replace("_", " "): f
    for f in (
        metadata_bits,
        header_bits,
        metadata_run,
        texts_zeroed,
        heap_run,
        chunk_bits,
        chunk_run,
        truncation,
        holes,
    )
}


# ------------------------------------------------------------------------------------------------- HDF5


def swapped(rng: Rng, file: Any) -> None:
    """Two chunks of the counts, each in the other's place."""
    data = file["SERC/Reflectance/Reflectance_Data"].id
    one, two = (data.get_chunk_info(int(n)).chunk_offset for n in rng.choice(data.get_num_chunks(), 2, replace=False))
    (mask_one, bytes_one), (mask_two, bytes_two) = data.read_direct_chunk(one), data.read_direct_chunk(two)
    data.write_direct_chunk(one, bytes_two, mask_two)
    data.write_direct_chunk(two, bytes_one, mask_one)


GROUP = "SERC/Reflectance"
DATA, META = f"{GROUP}/Reflectance_Data", f"{GROUP}/Metadata"
MAP, EPSG = f"{META}/Coordinate_System/Map_Info", f"{META}/Coordinate_System/EPSG Code"
WKT = f"{META}/Coordinate_System/Coordinate_System_String"
NM, WIDTH = f"{META}/Spectral_Data/Wavelength", f"{META}/Spectral_Data/FWHM"
SLOPE = f"{META}/Ancillary_Imagery/Slope"
NODES = (GROUP, DATA, META, MAP, EPSG, NM, WIDTH, SLOPE, f"{META}/Coordinate_System", f"{META}/Logs", "SERC")


def hostile_values(file: Any) -> list[Any]:
    """What an attribute or a dataset might be instead."""
    wide = np.zeros(2, [("a", "f8"), ("b", "S5")])
    texts = [
        "",
        "nan",
        "1e400",
        "x" * 60_000,
        "a\nb\x1b[31m\r",
        "\udcff".encode("utf-8", "surrogateescape"),
        "9" * 6000,
    ]
    numbers = [np.nan, np.inf, -np.inf, 0.0, -1.0, 1e-300, 1e300, 2**63, -(2**63), True, 1 + 2j, np.float16(3)]
    arrays = [np.zeros(0), np.zeros((3, 3)), np.full(BANDS, np.nan), np.zeros(BANDS), np.arange(BANDS)[::-1], wide]
    odd = [h5py.Empty("f8"), h5py.Empty("S3"), np.void(b"\1\2\3"), file.ref, np.bytes_(b"\xff\xfe\0a")]
    return [*texts, *numbers, *arrays, *odd]


def hostile_attribute(rng: Rng, file: Any) -> None:
    places = [(DATA, "Scale_Factor"), (DATA, "Data_Ignore_Value"), (DATA, "Spatial_Extent_meters"), (NM, "Units")]
    places += [(GROUP, "Band_Window_1_Nanometers"), (SLOPE, "Data_Ignore_Value"), (DATA, "Description"), (SLOPE, "x")]
    owner, name = places[rng.integers(len(places))]
    values = hostile_values(file)
    _try(lambda: file[owner].attrs.__setitem__(name, values[rng.integers(len(values))]))


def hostile_dataset(rng: Rng, file: Any) -> None:
    place = (MAP, EPSG, WKT, NM, WIDTH, SLOPE, DATA)[rng.integers(7)]
    values = hostile_values(file)
    del file[place]
    if place == EPSG:
        del file[WKT]
    _try(lambda: file.__setitem__(place, values[rng.integers(len(values))]))


def hostile_link(rng: Rng, file: Any) -> None:
    place = NODES[rng.integers(len(NODES))]
    del file[place]
    kind = rng.integers(7)
    if kind == 0:
        file[place] = h5py.SoftLink(f"/{place}")  # to itself
    elif kind == 1:
        file[place] = h5py.SoftLink("/nowhere/at/all")
    elif kind == 2:
        file[place] = h5py.ExternalLink("nowhere.h5", place)
    elif kind == 3:
        file[place] = h5py.ExternalLink(file.filename, place)  # to itself, by another way
    elif kind == 4:
        file[place] = file["/"]  # a group within itself
    elif kind == 5:
        file[place] = np.dtype("f8")  # a named type
    else:
        file[place] = h5py.ExternalLink("other.h5", place)


def hostile_layout(rng: Rng, file: Any) -> None:
    """Another dataset of counts: of any size, storage and type."""
    del file[DATA]
    shape = (*SHAPE, BANDS)
    virtual = h5py.VirtualLayout(shape, "<i2")
    virtual[:] = h5py.VirtualSource(["nowhere.h5", "."][rng.integers(2)], DATA, shape)
    makers: list[Callable[[], Any]] = [
        lambda: file.create_virtual_dataset(DATA, virtual),
        lambda: file.create_dataset(DATA, shape, "i2", chunks=(1, 1, 1)),
        lambda: file.create_dataset(DATA, (2**40, 2**20, BANDS), "i2", chunks=(64, 64, BANDS)),
        lambda: file.create_dataset(DATA, (1000, 2**19, BANDS), "i2", chunks=(8, 8, 8)),
        lambda: file.create_dataset(DATA, shape, "i2", chunks=(2**12, 2**12, 60), maxshape=(None,) * 3),
        lambda: file.create_dataset(DATA, shape, "i2", external=[("nowhere.raw", 0, h5py.h5f.UNLIMITED)]),
        lambda: file.create_dataset(DATA, shape, h5py.string_dtype()),
        lambda: file.create_dataset(DATA, shape, h5py.vlen_dtype(np.int16)),
        lambda: file.create_dataset(DATA, shape, np.dtype([("a", "i2")])),
        lambda: file.create_dataset(DATA, shape, h5py.enum_dtype({"a": 1}, "i2")),
        lambda: file.create_dataset(DATA, shape, bool),
        lambda: file.create_dataset(DATA, shape, "u4", fillvalue=2**32 - 1),
        lambda: file.create_dataset(DATA, shape, "i1"),
        lambda: file.create_dataset(DATA, shape, ">i4", data=np.full(shape, 70_000), compression="lzf"),
        lambda: file.create_dataset(DATA, shape, "i2", data=np.full(shape, 500), scaleoffset=0),
        lambda: file.create_dataset(DATA, shape, "i2", data=np.full(shape, 500), fletcher32=True),
        lambda: file.create_dataset(DATA, (BANDS, *SHAPE), "i2"),
        lambda: file.create_dataset(DATA, shape[:2], "i2"),
        lambda: file.create_dataset(DATA, data=h5py.Empty("i2")),
        lambda: file.create_group(DATA),
    ]
    _try(makers[rng.integers(len(makers))])


def hostile_text(rng: Rng, file: Any) -> None:
    """Map info, EPSG code and WKT that are text, and nothing else."""
    info = "UTM, 1, 1, {}, {}, {}, {}, 18, North, WGS-84, units=Meters, 0"
    good = [368000.0, 4307000.0, 1.0, 1.0]
    good[rng.integers(4)] = [np.nan, np.inf, 0.0, -1.0, 1e-12, 1e12, 4e8, 1e308][rng.integers(8)]
    place, text = [
        (MAP, info.format(*good)),
        (MAP, "UTM," * 100_000),
        (MAP, "UTM"),
        (MAP, "UTM, 1, 1, 368000, 4307000, 1, 1, 99, Up, WGS-84, rotation=x"),
        (EPSG, "-1"),
        (EPSG, "0"),
        (EPSG, "4294967296"),
        (EPSG, "4326"),
        (EPSG, "9" * 5000),
        (EPSG, "EPSG:\n32618"),
    ][rng.integers(10)]
    del file[place]
    file[place] = text


def _try(change: Callable[[], Any]) -> None:
    """What h5py itself refuses to write leaves the file without it."""
    try:
        change()
    except (TypeError, ValueError, OSError, RuntimeError, OverflowError):
        return


HDF5: dict[str, Callable[[Rng, Any], None]] = {
    f.__name__.replace("_", " "): f
    for f in (swapped, hostile_attribute, hostile_dataset, hostile_link, hostile_layout, hostile_text)
}
KINDS = (*BYTES, *HDF5)


def mutate(kind: str, seed: int, source: Path, target: Path) -> None:
    """Writes to `target` what a mutation makes of the valid tile `source`."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    if kind in BYTES:
        raw = bytearray(source.read_bytes())
        BYTES[kind](rng, source, raw)
        target.write_bytes(raw)
    else:
        shutil.copyfile(source, target)
        with h5py.File(target, "r+") as file:
            HDF5[kind](rng, file)


# ------------------------------------------------------------------------------------------------- runs


class Worker:
    """A process that has imported everything and does each command line in a fork of itself."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        code = "from tests.helpers.mutations import serve; serve()"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root
        )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()  # it waits for the next line, and would take seconds to take itself down
        self._process.communicate()

    def do(self, arguments: list[str], said: Path) -> tuple[int | None, float]:
        """Exit status of `hsichunk ARGUMENTS`, None where it did not end, and seconds; what it said is in `said`."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([arguments, str(said)]) + "\n")
        self._process.stdin.flush()
        status, seconds = json.loads(self._process.stdout.readline())
        return status, seconds


def serve() -> None:
    """The worker: a line in for each command line, a line out for how it ended."""
    os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
    import importlib

    from hsichunk.cli import main as cli
    from hsichunk.mosaic import site
    from hsichunk.run import warm_up
    from hsichunk.unmixing.stored_pass import load_kernels

    for name in (
        *warm_up.LATE,
        "hsichunk.run.site_pass",
        "hsichunk.run.progress",
        "hsichunk.run.make_record",
        "h5py",
        "deflate",
    ):
        importlib.import_module(name)
    load_kernels()
    site.SECONDS = PIECE
    for line in sys.stdin:
        arguments, said = json.loads(line)
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            _become(cli, arguments, said)
        status = _wait(pid, began + LIMIT)
        print(json.dumps([status, time.monotonic() - began]), flush=True)


def _become(cli: Any, arguments: list[str], said: str) -> None:
    try:
        os.setpgid(0, 0)
        to = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDWR)
        for old, new in ((nothing, 0), (to, 1), (to, 2)):
            os.dup2(old, new)
        sys.argv = ["hsichunk", *arguments]
        cli.main()
    finally:
        os._exit(99)


def _wait(pid: int, until: float) -> int | None:
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


@dataclass(frozen=True)
class Case:
    """One mutation of one tile, and how the run is to take it."""

    kind: str
    seed: int
    layout: str
    on_error: str
    beside: bool
    """whether a good tile, of the same place, comes after it"""

    def __str__(self) -> str:
        return f"{self.kind} {self.seed} ({self.layout}, {self.on_error}{', beside a good one' if self.beside else ''})"


def cases(count: int, seed: int) -> Iterator[Case]:
    """So many cases: the kinds in turn, all else by chance."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind, layout = KINDS[number % len(KINDS)], str(rng.choice(list(LAYOUTS)))
        on_error = str(rng.choice(["stop", "skip", "mask"]))
        yield Case(kind, int(rng.integers(2**31)), layout, on_error, bool(rng.integers(3) == 0))


@dataclass(frozen=True)
class Result:
    """What came of a case."""

    case: Case
    outcome: str
    """same or other results, refused; or a fault"""
    faults: tuple[str, ...]
    said: str
    seconds: float


class Bench:
    """A folder with the valid tiles, what runs over them give, and a worker."""

    def __init__(self, folder: Path, worker: Worker) -> None:
        self.folder, self.worker = folder, worker
        self.sources = {layout: write_source(folder, layout) for layout in LAYOUTS}
        self.expected: dict[tuple[str, bool], str] = {}
        for layout, source in self.sources.items():
            for beside in (False, True):
                tile = folder / "a.h5"
                shutil.copyfile(source, tile)
                result = self._run(Case("none", 0, layout, "stop", beside))
                assert not result.faults, result
                assert result.outcome == "other", result
                self.expected[layout, beside] = self._digest()

    def __call__(self, case: Case) -> Result:
        mutate(case.kind, case.seed, self.sources[case.layout], self.folder / "a.h5")
        return self._run(case)

    def _run(self, case: Case) -> Result:
        out, said = self.folder / "out", self.folder / "said.txt"
        shutil.rmtree(out, ignore_errors=True)
        tiles = [self.folder / "a.h5"] + [self.sources[case.layout]] * case.beside
        arguments = ["run", *map(str, tiles), "--out", str(out), "-k", "3", "--sample", "300", "--share", "1"]
        arguments += ["--memory", "1GB", "--threads", "2", "--on-error", case.on_error]
        status, seconds = self.worker.do(arguments, said)
        text = said.read_text(errors="replace")
        faults = list(self._faults(status, text, out))
        outcome = {0: "done", 1: "refused"}.get(-1 if status is None else status, f"ended with {status}")
        if status == 0:
            outcome = "same" if self._digest() == self.expected.get((case.layout, case.beside)) else "other"
            if case.kind.startswith("chunk") and case.on_error == "stop" and outcome == "other":
                faults.append("damaged counts went unseen")
        return Result(case, outcome, tuple(faults), text, seconds)

    @staticmethod
    def _faults(status: int | None, text: str, out: Path) -> Iterator[str]:
        lines = text.splitlines()
        errors = [line for line in lines if line.startswith("hsichunk: ") and not line.startswith("hsichunk: note: ")]
        if status not in (0, 1):
            yield "did not end" if status is None else f"ended with {status}"
        if "Traceback" in text:
            yield "a traceback"
        if any("unexpected" in line for line in errors):
            yield "an error that is no HsiError"
        if any(len(line) > 800 for line in lines):
            yield "a line without end"
        left = [name for name in ("run.json", "products.zarr") if (out / name).exists()]
        if status == 0 and (errors or len(left) < 2):
            yield f"success with {len(errors)} errors and {left}"
        if status == 1 and (len(errors) != 1 or left):
            yield f"failure with {len(errors)} errors and {left}"
        if status == 1 and any(not line.startswith("hsichunk: ") for line in lines):
            yield "words beside the error"

    def _digest(self) -> str:
        """Of all products and endmembers, apart from what is said about them."""
        digest = hashlib.sha256()
        for path in sorted((self.folder / "out").rglob("*")):
            if path.is_file() and (path.name == "endmembers.csv" or "/c/" in str(path)):
                digest.update(path.read_bytes())
        return digest.hexdigest()


def table(results: list[Result]) -> str:
    """Kinds against outcomes."""
    columns = [*sorted({r.outcome for r in results}), "faults", "longest s"]
    lines = [f"{'':20}" + "".join(f"{c:>12}" for c in columns)]
    for kind in (*KINDS, "all"):
        mine = [r for r in results if kind in (r.case.kind, "all")]
        if mine:
            number = Counter(r.outcome for r in mine) + Counter(faults=sum(bool(r.faults) for r in mine))
            row = "".join(f"{number[c]:>12}" for c in columns[:-1])
            lines.append(f"{kind:20}{row}{max(r.seconds for r in mine):>12.1f}")
    return "\n".join(lines)


def main() -> None:
    """Runs so many cases, and ends with 1 where one has a fault."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60, help="no case is begun after that")
    parser.add_argument("--keep", type=Path, help="folder for the tiles with faults")
    asked = parser.parse_args()
    results: list[Result] = []
    until = time.monotonic() + 60 * asked.minutes
    with tempfile.TemporaryDirectory() as folder, Worker() as worker:
        bench = Bench(Path(folder), worker)
        for case in itertools.takewhile(lambda _: time.monotonic() < until, cases(asked.count, asked.seed)):
            result = bench(case)
            results.append(result)
            if result.faults:
                print(f"{case}: {', '.join(result.faults)}\n    {result.said[-400:].strip()}", flush=True)
                if asked.keep:
                    asked.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(bench.folder / "a.h5", asked.keep / f"{case}.h5")
    print(table(results))
    sys.exit(any(result.faults for result in results))


if __name__ == "__main__":
    main()
