"""Tiles behind addresses: a web server and an S3 server of this machine, their faults, and what is fetched."""

from __future__ import annotations

import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hsichunk as hsi
from hsichunk.chunks import remote
from hsichunk.chunks.hdf5 import HDF5Array
from hsichunk.cli.info import describe
from hsichunk.mosaic.site import open_site
from hsichunk.readers import neon
from hsichunk.run.make_plan import kept_bands
from tests.helpers.runs import asked, checksums, go
from tests.helpers.tiles import LAYOUTS, small_tile
from tests.helpers.web import Web, no_collection

pytest.importorskip("obstore", reason="reading from addresses needs the extra 'remote'")

TILE = "NEON_D00_TEST_reflectance.h5"
METADATA = 512 << 10  # bytes, whatever the size of the tile


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # as patient as a test can be
    monkeypatch.setattr(remote, "RETRIES", {"max_retries": 3, "retry_timeout": timedelta(seconds=5)})
    server = Web()
    yield server
    server.close()


@pytest.fixture(autouse=True, scope="module")
def no_garbage() -> Iterator[None]:
    with no_collection():
        yield


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def tile(layout: str) -> Path:
        if layout not in made:
            made[layout] = small_tile(tmp_path_factory.mktemp(layout) / TILE, chunks=LAYOUTS[layout])
        return made[layout]

    return tile


@pytest.fixture(scope="module")
def local(tiles: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, str]]:
    """Checksums of a run over the local file."""
    made: dict[str, dict[str, str]] = {}

    def run(layout: str) -> dict[str, str]:
        if layout not in made:
            out = tmp_path_factory.mktemp("local") / "out"
            go(tiles(layout), out)
            made[layout] = checksums(out)
        return made[layout]

    return run


def over(url: str, out: Path, **changed: Any) -> dict[str, Any]:
    return go([url], out, **changed)  # type: ignore[list-item]


def refused(url: str, *words: str) -> str:
    """The message with which an address is refused: one line that names it, soon."""
    began = time.monotonic()
    with pytest.raises(hsi.HsiError) as caught:
        hsi.open_tile(url)
    assert time.monotonic() - began < 15
    message = str(caught.value)
    assert message.startswith(f"{url}: ") and "\n" not in message and len(message) < len(url) + 250
    for word in words:
        assert word in message
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_from_the_web_equals_the_local_one(web: Web, tiles: Any, local: Any, layout: str, tmp_path: Path) -> None:
    over(web.put(tiles(layout)), tmp_path / "out")
    assert checksums(tmp_path / "out") == local(layout)


@pytest.fixture(scope="module")
def spectra(tiles: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Endmembers in a file: a run over them takes no sample, and reads each chunk once."""
    out = tmp_path_factory.mktemp("spectra") / "out"
    go(tiles("spatial"), out)
    return out / "endmembers.csv"


@pytest.mark.parametrize("chunks", [(32, 63, 9), (256, 200, 1)])
def test_little_more_than_the_kept_chunks_is_fetched(
    web: Web, spectra: Path, chunks: tuple[int, int, int], tmp_path: Path
) -> None:
    tile = small_tile(tmp_path / TILE, chunks=chunks, shape=(256, 200))
    options = asked(tile, tmp_path / "out", endmembers=str(spectra))
    site = open_site(options.tiles)
    index = site.tiles[0].file.reflectance.index
    kept = int(index.size[..., np.unique(kept_bands(site, options) // chunks[2])].sum())
    assert kept / 2 > METADATA and kept < 0.95 * index.size.sum()  # else this shows nothing
    over(web.put(tile), tmp_path / "out", endmembers=options.endmembers)
    assert web.sent <= 1.1 * kept + METADATA
    data = [(start, stop) for _, start, stop in web.log if stop - start != remote.BLOCK]
    assert sum(stop - start for start, stop in data) >= kept


def test_neighbouring_chunks_come_in_one_request(web: Web, tmp_path: Path) -> None:
    tile = small_tile(tmp_path / TILE, chunks=(32, 63, 3), shape=(64, 126))
    file = neon.read(web.put(tile))
    stored = file.reflectance
    wanted = [(0, 1, n) for n in range(stored.grid[2]) if n not in (4, 5)]
    assert len(stored.index.size[0, 1]) == len(wanted) + 2
    web.log.clear()
    with stored.opened() as handle:
        stored.announce(handle, wanted)
        chunks = [stored.chunk(handle, place) for place in wanted]
    assert len(web.log) == 2  # on both sides of the chunks left out
    assert web.sent <= stored.index.size[0, 1].sum() * 33 / 32
    same = neon.read(str(tile)).reflectance
    with same.opened() as handle:
        for place, chunk in zip(wanted, chunks, strict=True):
            np.testing.assert_array_equal(chunk, same.chunk(handle, place))


def test_a_run_asks_less_often_than_it_reads_chunks(web: Web, tmp_path: Path) -> None:
    tile = small_tile(tmp_path / TILE, chunks=(32, 63, 3), shape=(128, 126))
    report = over(web.put(tile), tmp_path / "out")
    chunks = sum(stage["chunks_decoded"] for stage in report["stages"].values())
    assert len(web.log) - 60 < chunks / 3


@given(
    st.lists(st.tuples(st.integers(0, 4000), st.integers(1, 3000)), min_size=1, max_size=30),
    st.randoms(),
    st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_announced_ranges_hold_what_is_read(pieces: list[tuple[int, int]], order: Any, all_said: bool) -> None:
    ranges, end = [], 0
    for gap, size in pieces:
        ranges.append((end + gap // 8, size))
        end = ranges[-1][0] + size
    content = np.random.default_rng(1).bytes(end)
    fetched = []

    def fetch(url: str, stamp: Any, start: int, size: int) -> memoryview:
        fetched.append(size)
        return memoryview(content)[start : start + size]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote, "fetch", fetch)
        patch.setattr(remote, "LONGEST", 10_000)
        handle = remote.Ranges("http://x/y", (end, 1))
        handle.announce(ranges if all_said else ranges[::2])
        order.shuffle(ranges)
        for start, size in ranges:
            assert bytes(handle.read(start, size)) == content[start : start + size]
    assert sum(fetched) <= sum(size for _, size in ranges) * 33 / 32
    assert max(fetched) <= 10_000


def test_every_variable_equals_the_local_one(web: Web, tiles: Any) -> None:
    tile, before = tiles("spatial"), remote.FETCHED.now()
    there, here = hsi.open_tile(web.put(tile)), hsi.open_tile(tile)
    assert not [entry for entry in web.log if entry[2] - entry[1] > remote.BLOCK]
    assert there.load().identical(here.load())
    assert tuple(np.subtract(remote.FETCHED.now(), before)) == (len(web.log), web.sent)


def test_reading_a_window_fetches_its_chunks_alone(web: Web, tiles: Any) -> None:
    tile = tiles("spatial")
    there = hsi.open_tile(web.put(tile)).reflectance[3:10, 2:9, 12:20]
    values = there.values
    np.testing.assert_array_equal(values, hsi.open_tile(tile).reflectance[3:10, 2:9, 12:20].values)
    index = neon.read(tile).reflectance.index
    assert web.log[-1][1:] == (index.offset[0, 0, 1], index.offset[0, 0, 2] + index.size[0, 0, 2])


def test_info_describes_a_tile_of_the_web(web: Web, tiles: Any, tmp_path: Path) -> None:
    tile = tiles("spatial")
    url = web.put(tile)
    there, here = (describe(asked([path], tmp_path)) for path in (url, str(tile)))  # type: ignore[list-item]
    assert replace(there, path="") == replace(here, path="")


def test_what_only_h5py_reads_is_read_from_the_web(web: Web, tmp_path: Path) -> None:
    values = np.random.default_rng(2).integers(0, 9, (60, 70), np.int16)
    with h5py.File(tmp_path / "lzf.h5", "w") as file:
        file.create_dataset("chunked", data=values, chunks=(16, 16), compression="lzf")
        file["whole"] = values
        file["long"] = np.arange(200_000)
    url = web.put(tmp_path / "lzf.h5")
    with h5py.File(remote.RemoteFile(url), "r") as file:
        stored = {name: HDF5Array(url, file[name]) for name in file}
    assert not any(array.direct for array in stored.values())
    for name in ("chunked", "whole"):
        np.testing.assert_array_equal(stored[name].read(np.arange(60), np.arange(70)), values)
    np.testing.assert_array_equal(stored["long"].read(np.arange(200_000)), np.arange(200_000))


def test_a_stored_array_goes_to_another_process_with_its_index(web: Web, tiles: Any, tmp_path: Path) -> None:
    stored = neon.read(web.put(tiles("spatial"))).reflectance
    assert stored.index.size.all()
    (tmp_path / "stored.pickle").write_bytes(pickle.dumps(stored))
    web.log.clear()
    code = (
        "import pickle, sys, numpy as np\n"
        "stored = pickle.load(open(sys.argv[1], 'rb'))\n"
        "np.save(sys.argv[2], stored.read(*(np.arange(n) for n in stored.shape)))\n"
    )
    out = tmp_path / "values.npy"
    subprocess.run([sys.executable, "-c", code, tmp_path / "stored.pickle", out], check=True, timeout=60)
    np.testing.assert_array_equal(np.load(out), hsi.open_tile(tiles("spatial")).reflectance.values)
    assert web.sent <= stored.index.size.sum() * 33 / 32


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # threads and fork: as pools of processes do it
def test_a_forked_process_says_that_it_cannot(web: Web, tiles: Any) -> None:
    stored = neon.read(web.put(tiles("spatial"))).reflectance
    stored.read(*(np.arange(n) for n in stored.shape))
    child = os.fork()
    if not child:
        code = 1
        try:
            stored.read(*(np.arange(n) for n in stored.shape), threads=1)
        except hsi.HsiError as error:
            code = 0 if "start processes by spawn" in str(error) else 2
        finally:
            os._exit(code)
    for _ in range(200):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
def test_passing_faults_pass(web: Web, tiles: Any, local: Any, fault: str, tmp_path: Path) -> None:
    failed: set[int] = set()

    def fails_once(number: int) -> str | None:
        end = web.log[number][2]  # the rest of an answer that broke off has the same
        if number % 4 != 2 or end in failed:
            return None
        failed.add(end)
        return fault

    web.fault = fails_once
    over(web.put(tiles("spatial")), tmp_path / "out")
    assert checksums(tmp_path / "out") == local("spatial")
    assert len(failed) > 5


def test_a_server_that_dies_ends_the_run_which_goes_on_later(web: Web, tiles: Any, local: Any, tmp_path: Path) -> None:
    url = web.put(tiles("spatial"))
    over(url, tmp_path / "whole")
    remote._block.cache_clear()
    died = len(web.log) - 3
    web.log.clear()
    web.fault = lambda number: "503" if number >= died else None
    with pytest.raises(hsi.HsiError) as caught:
        over(url, tmp_path / "out")
    assert str(caught.value).startswith(url) and "\n" not in str(caught.value)
    assert "503" in str(caught.value)
    web.fault = lambda number: None
    over(url, tmp_path / "out")
    assert checksums(tmp_path / "out") == local("spatial")


def test_a_server_that_dies_during_the_metadata(web: Web, tiles: Any) -> None:
    url = web.put(tiles("spatial"))
    hsi.open_tile(url)
    for healthy in range(1, len(web.log)):
        web.log.clear()
        web.tag = f'"{healthy}"'  # nothing kept from before will do
        web.fault = lambda number, healthy=healthy: "reset" if number >= healthy else None  # type: ignore[misc]
        refused(url)


def test_a_file_that_changes_is_refused(web: Web, tiles: Any) -> None:
    url = web.put(tiles("spatial"))
    tile = hsi.open_tile(url)
    web.tag = '"second"'
    with pytest.raises(hsi.HsiError, match=f"^{re.escape(url)}: changed since it was opened; open it again$"):
        tile.reflectance[:3, :3, :3].values  # noqa: B018
    assert hsi.open_tile(url).reflectance[:3, :3, :3].values.shape == (3, 3, 3)
    web.fault = lambda number: setattr(web, "tag", f'"{number}"')  # another with every answer
    assert "changed" in refused(url)


def test_a_weak_tag_is_the_same_as_a_strong_one(web: Web, tiles: Any) -> None:
    tile = hsi.open_tile(web.put(tiles("spatial")))
    web.tag = 'W/"first"'
    assert tile.reflectance[:3, :3, :3].values.shape == (3, 3, 3)


def test_addresses_that_do_not_answer(web: Web, tiles: Any) -> None:
    web.put(tiles("spatial"))
    refused(f"{web.base}/other.h5", "not found", "check the address")
    web.files["page.h5"] = b"<html>please log in</html>"
    refused(f"{web.base}/page.h5", "not an HDF5 file")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        refused(f"http://127.0.0.1:{free.getsockname()[1]}/{TILE}", "refused", "check address and connection")
    refused(f"http://no-such-host.invalid/{TILE}", "check address and connection")
    refused(web.base.replace("http", "https") + f"/{TILE}", "check address and connection")  # no TLS there
    for url in ("http://", "s3://bucket", "s3:///key.h5"):
        refused(url)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("403", ("403 Forbidden", "login")),
        ("503", ("503 Service Unavailable", "run again")),
        ("no range", ("byte ranges", "download")),
        ("stall", ("no answer in time", "run again")),
    ],
)
def test_servers_that_do_not_serve(
    web: Web, tiles: Any, fault: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "CLIENT", {"connect_timeout": "1s", "read_timeout": "300ms", "timeout": "1s"})
    web.fault = lambda number: fault
    refused(web.put(tiles("spatial")), *words)


def test_signed_addresses_are_sent_whole_and_named_without_signature(web: Web, tiles: Any) -> None:
    url = web.put(tiles("spatial"))
    hsi.open_tile(f"{url}?sig=a%2Fb&x=1")
    assert {name for name, _, _ in web.log} == {f"{TILE}?sig=a%2Fb&x=1"}
    with pytest.raises(hsi.HsiError, match=rf"^{re.escape(web.base)}/no\.h5: not found"):
        hsi.open_tile(f"{web.base}/no.h5?sig=secret")
    assert remote.shown("https://user:secret@host/a.h5?sig=1") == "https://host/a.h5"
    assert remote.name_of(f"{url}?sig=1") == TILE
    assert remote.name_of("/some/odd?name.h5") == "odd?name.h5"


def test_without_obstore_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("obstore", "obstore.store"):
        monkeypatch.setitem(sys.modules, name, None)
    refused("https://host.invalid/without.h5", "pip install 'hsichunk[remote]'")


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """An S3 server of this machine with a bucket, set up by the environment."""
    moto = pytest.importorskip("moto.server", reason="moto's server is not installed")
    server = moto.ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        from obstore.store import S3Store

        with urllib.request.urlopen(urllib.request.Request(f"{settings['AWS_ENDPOINT_URL']}/tiles", method="PUT")):
            pass
        yield S3Store("tiles", client_options={"allow_http": True})
    server.stop()


@pytest.mark.parametrize("layout", ["spatial", "band"])
def test_a_run_from_s3_equals_the_local_one(s3: Any, tiles: Any, local: Any, layout: str, tmp_path: Path) -> None:
    key = f"2021 {layout}/a+b%20c/{TILE}"
    s3.put(key, tiles(layout).read_bytes())
    over(f"s3://tiles/{key}", tmp_path / "out")
    assert checksums(tmp_path / "out") == local(layout)


def test_what_s3_has_not_or_has_changed_is_refused(s3: Any, tiles: Any) -> None:
    refused("s3://tiles/other.h5", "not found")
    refused("s3://nothing/other.h5", "not found")
    s3.put("changing.h5", content := tiles("spatial").read_bytes())
    tile = hsi.open_tile("s3://tiles/changing.h5")
    s3.put("changing.h5", content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(hsi.HsiError, match="changed since it was opened"):
        tile.reflectance[:3, :3, :3].values  # noqa: B018


def test_a_run_from_nginx_equals_the_local_one(tiles: Any, local: Any, tmp_path: Path) -> None:
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if binary is None:
        pytest.skip("nginx is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tiles("spatial").parent
    (tmp_path / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};\n"
        f"fastcgi_temp_path {tmp_path}; uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};\n"
        f"server {{ listen 127.0.0.1:{port}; root {folder}; }} }}\n"
    )
    server = subprocess.Popen(
        [binary, "-p", tmp_path, "-c", tmp_path / "nginx.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            with socket.socket() as client:
                if not client.connect_ex(("127.0.0.1", port)):
                    break
            time.sleep(0.05)
        over(f"http://127.0.0.1:{port}/{TILE}", tmp_path / "out")
        assert checksums(tmp_path / "out") == local("spatial")
        refused(f"http://127.0.0.1:{port}/other.h5", "not found")
    finally:
        server.terminate()
        server.wait(10)
