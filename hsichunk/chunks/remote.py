"""Read byte ranges of tiles at an address, http://, https:// or s3://, by obstore (the extra `remote`).

obstore keeps connections open, retries after a pause (5xx, broken connections, timeouts) and resumes where an answer
broke off. Every answer names the version of the file that it belongs to; a version other than the one opened is
refused. The environment configures S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_SKIP_SIGNATURE=true,
AWS_REGION, AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from hsichunk.errors import HsiError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from obstore.store import ClientConfig, HTTPStore, RetryConfig, S3Store

BLOCK = 32 << 10  # bytes of metadata fetched and kept at a time
BLOCKS = 512  # blocks kept by a process
LONGEST = 8 << 20  # bytes of one request for several chunks
SPARE = 32  # chunks that nearly touch share a request while the bytes between them are at most 1/32 of their own
CLIENT: ClientConfig = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "15min"}
RETRIES: RetryConfig = {"max_retries": 6, "retry_timeout": timedelta(seconds=60)}
S3_SETTINGS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_SKIP_SIGNATURE=true for a public bucket, and AWS_REGION"
)
Stamp = tuple[int, int]
"""size in bytes, and a number made of the ETag or, without one, of the time of the last change"""


class FetchCounter:
    """Count the answered requests and fetched bytes of this process; tests and run.json take differences."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests = 0
        self.bytes = 0

    def add(self, size: int) -> None:
        """Count one request that was answered by `size` bytes."""
        with self._lock:
            self.requests += 1
            self.bytes += size

    def now(self) -> tuple[int, int]:
        """Return the requests and the bytes so far."""
        with self._lock:
            return self.requests, self.bytes


FETCHED = FetchCounter()
_used_by: set[int] = set()  # ids of the processes that have used obstore: this one and those it was forked from
_opened: dict[str, Stamp] = {}  # the version of each address as it was when last opened


def is_url(path: str) -> bool:
    """Return whether a path is an address: http://, https:// or s3://."""
    return re.match(r"(https?|s3)://", path, re.IGNORECASE) is not None


def shown(url: str) -> str:
    """Return an address as messages name it: without password and signature; a path as it is."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0]) if is_url(url) else url


def name_of(path: str) -> str:
    """Return the name of the file at a path or an address."""
    return os.path.basename(shown(path))


def stamp_of(url: str) -> Stamp:
    """Return size and version of the file at `url` when this process last opened it; opens it if it never did."""
    if url not in _opened:
        RemoteFile(url)
    return _opened[url]


@functools.lru_cache(maxsize=256)
def _store(url: str, pid: int) -> tuple[HTTPStore | S3Store, str]:
    """Return the client of an address, and the key of the file there.

    `pid` is the id of this process: a forked child does not get its parent's client.
    """
    if _used_by - {pid}:  # obstore's threads do not survive a fork: a child would wait for them for ever
        raise HsiError(
            f"{shown(url)}: cannot be read in a process forked from one that reads addresses; "
            "start processes by spawn or forkserver"
        )
    try:
        from obstore.store import HTTPStore, S3Store
    except ImportError as error:
        raise HsiError(
            f"{shown(url)}: reading from an address needs obstore, which is not installed; "
            "pip install 'hsichunk[remote]', or download the file"
        ) from error
    _used_by.add(pid)
    client: ClientConfig = {**CLIENT}
    try:
        if url[:5].lower() != "s3://":
            client["allow_http"] = url[:5].lower() == "http:"
            # the whole address goes to the client, with its signature, and nothing remains for the key
            return HTTPStore.from_url(url, client_options=client, retry_config={**RETRIES}), ""
        bucket, _, key = url[5:].partition("/")
        if not bucket or not key:
            raise HsiError(f"{url}: names no file in a bucket; expected s3://bucket/folder/tile.h5")
        endpoints = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
        if any(value.startswith("http://") for value in endpoints):
            client["allow_http"] = True
        return S3Store(bucket, client_options=client, retry_config={**RETRIES}), key
    except HsiError:
        raise
    except Exception as error:  # obstore's errors, and ValueError of its settings, have no common class
        raise HsiError(f"{shown(url)}: no address that can be read ({_why(error)})") from error


def _get(url: str, start: int, stop: int) -> tuple[Stamp, memoryview]:
    """Return the version of the file at `url`, and its bytes from start to stop (excluded).

    Raises HsiError when all attempts have failed.
    """
    store, key = _store(url, os.getpid())
    import obstore

    try:
        answer = obstore.get(store, key, options={"range": (start, stop)})
        meta, data = answer.meta, memoryview(answer.bytes())
    except FileNotFoundError as error:
        raise HsiError(f"{shown(url)}: not found; check the address") from error
    except Exception as error:  # obstore's errors have no common class
        raise HsiError(f"{shown(url)}: {_why(error)}; {_advice(url, error)}") from error
    FETCHED.add(len(data))
    tag = (meta["e_tag"] or "").removeprefix("W/") or meta["last_modified"].isoformat()
    return (meta["size"], int.from_bytes(hashlib.sha256(tag.encode()).digest()[:7], "big")), data


def _why(error: Exception) -> str:
    """Return the cause of an error in a few words, from obstore's account of many lines."""
    summary, _, details = str(error).partition("\n\nDebug source:")
    if "RangeNotSupported" in details:
        return "the server does not send parts of a file (byte ranges)"
    if "169.254." in summary:  # the address at which machines of a cloud, and no others, find their credentials
        return "no credentials"
    if status := re.search(r"status code: (\d{3}[^:\n]*)", summary):
        return f"the server answers {status[1].strip()}"
    if "kind: Timeout" in details or "TimedOut" in details:
        return "no answer in time"
    causes = re.findall(r'(?:message|error): "([^"]+)"', details)
    if not causes and "kind: Interrupted" in details:
        return "the connection broke off"
    return " ".join((causes or [summary.rpartition(" - ")[2]])[-1].split()) or type(error).__name__


def _advice(url: str, error: Exception) -> str:
    """Return what the user can do about an error."""
    account, s3 = str(error), url[:5].lower() == "s3://"
    if "RangeNotSupported" in account:
        return "download the file and give its path"
    if "169.254." in account or "status code: 301" in account or re.search(r"status code: 40[013]", account):
        return S3_SETTINGS if s3 else "expected a file that needs no login; download it and give its path"
    return "check address and connection, then run again"


def fetch(url: str, stamp: Stamp, start: int, size: int) -> memoryview:
    """Return bytes of the file as it was when opened. Raises HsiError where it has changed or cannot be fetched."""
    version, data = _get(url, start, start + size)
    if version != stamp:
        raise HsiError(f"{shown(url)}: changed since it was opened; open it again")
    if len(data) != size:
        raise HsiError(f"{shown(url)}: sent {len(data)} bytes instead of {size}; run again, or download the file")
    return data


@functools.lru_cache(maxsize=BLOCKS)
def _block(url: str, stamp: Stamp, number: int) -> memoryview:
    start = number * BLOCK
    return fetch(url, stamp, start, min(BLOCK, stamp[0] - start))


class RemoteFile(io.RawIOBase):
    """The file at an address, to be read by h5py.

    Small reads (metadata) go block by block, and each block is fetched once; large ones (data) are fetched as they
    come. Without `stamp` the file is that of the version which the server has now. `failure` keeps the error of a
    fetch, since h5py raises another in its place.
    """

    def __init__(self, url: str, stamp: Stamp | None = None) -> None:
        self.url = url
        self.failure: HsiError | None = None
        self._at = 0
        self._head: memoryview | None = None
        if stamp is None:
            stamp, self._head = _get(url, 0, BLOCK)
            _opened[url] = stamp
        self.stamp = stamp

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.stamp[0]}[whence]
        return self._at

    def readinto(self, buffer: WriteableBuffer) -> int:
        out = memoryview(buffer).cast("B")
        size = max(0, min(len(out), self.stamp[0] - self._at))
        done = 0
        try:
            if size >= BLOCK:
                out[:size] = fetch(self.url, self.stamp, self._at, size)
                done = size
            while done < size:
                number, skipped = divmod(self._at + done, BLOCK)
                block = self._head if number == 0 and self._head else _block(self.url, self.stamp, number)
                part = block[skipped : skipped + size - done]
                out[done : done + len(part)] = part
                done += len(part)
        except HsiError as error:
            self.failure = error
            raise
        self._at += size
        return size


@dataclass
class _Run:
    """Neighbouring chunks, fetched by one request when the first of them is read."""

    start: int
    stop: int
    chunk_bytes: int
    """bytes of the chunks themselves, without those between them"""
    data: memoryview | None = None


class Ranges:
    """The handle of an `HDF5Array` at an address, for one thread: byte ranges, the announced ones in few requests."""

    def __init__(self, url: str, stamp: Stamp) -> None:
        self._url, self._stamp = url, stamp
        self._run_at: dict[int, _Run] = {}  # the run of each announced chunk not yet read, by the chunk's first byte

    def announce(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Say what `read` will be asked for, as (first byte, size): ranges that (nearly) touch become one request."""
        run: _Run | None = None
        for start, size in sorted(ranges):
            if run is not None and run.stop <= start and start + size - run.start <= LONGEST:
                chunk_bytes = run.chunk_bytes + size
                if (start + size - run.start - chunk_bytes) * SPARE <= chunk_bytes:
                    run.stop, run.chunk_bytes = start + size, chunk_bytes
                    self._run_at[start] = run
                    continue
            run = self._run_at[start] = _Run(start, start + size, size)

    def read(self, start: int, size: int) -> memoryview:
        """Return `size` bytes from `start`; the bytes of a run are freed when the last of its chunks has been read."""
        run = self._run_at.pop(start, None)
        if run is None:
            return fetch(self._url, self._stamp, start, size)
        if run.data is None:
            run.data = fetch(self._url, self._stamp, run.start, run.stop - run.start)
        return run.data[start - run.start : start - run.start + size]
