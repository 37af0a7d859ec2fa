"""A web server of this machine, for files behind addresses."""

from __future__ import annotations

import gc
import http.server
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Web:
    """A web server with byte ranges and ETags. `fault` sees each request's number and may name what goes wrong."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.tag = '"first"'
        self.log: list[tuple[str, int, int]] = []
        self.fault: Callable[[int], str | None] = lambda number: None
        self.freed = threading.Event()
        self._lock = threading.Lock()
        web = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else header and body of each answer wait for one another

            def log_message(self, *args: Any) -> None:
                pass

            def do_GET(self) -> None:
                web.answer(self)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *args: None  # type: ignore[method-assign]  # a client that hangs up
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.base = f"http://127.0.0.1:{self._server.server_port}"

    def put(self, path: Path) -> str:
        self.files[path.name] = path.read_bytes()
        return f"{self.base}/{path.name}"

    def answer(self, request: Any) -> None:
        name = request.path[1:]
        with self._lock:
            number = len(self.log)
            first, last = map(int, re.findall(r"\d+", request.headers.get("Range", "bytes=0-0")))
            self.log.append((name, first, last + 1))
        fault = self.fault(number)
        body = self.files.get(name.partition("?")[0])
        if fault == "reset":
            request.close_connection = True
            request.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "stall":
            self.freed.wait(20)
        if body is None or fault in ("403", "503"):
            return self._send(request, 404 if body is None else int(fault or 0), b"", {})
        if fault == "no range":
            return self._send(request, 200, body[:1000], {})
        last = min(last, len(body) - 1)
        headers = {"Content-Range": f"bytes {first}-{last}/{len(body)}", "ETag": self.tag}
        self._send(request, 206, body[first : last + 1], headers, cut=fault == "cut")

    def _send(self, request: Any, status: int, body: bytes, headers: dict[str, str], cut: bool = False) -> None:
        request.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            request.send_header(key, value)
        request.end_headers()
        request.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            request.close_connection = True

    @property
    def sent(self) -> int:
        return sum(min(stop, len(self.files[name.partition("?")[0]])) - start for name, start, stop in self.log)

    def close(self) -> None:
        self.freed.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def no_collection() -> Iterator[None]:
    """h5py waits for an answer with its lock held; a server's thread of this process that collects h5py's garbage
    would wait for that lock for ever. h5py's documentation warns of it; a server elsewhere cannot be held up so.
    """
    gc.collect()
    gc.disable()
    yield
    gc.enable()
