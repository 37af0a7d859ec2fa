"""Serve a page on this machine that shows the results of a run: `view`. Needs the extra `view` (bokeh)."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hsichunk.errors import HsiError

if TYPE_CHECKING:
    from bokeh.server.server import Server

HOST = "127.0.0.1"


def view(
    out: str | os.PathLike[str],
    port: int = 0,
    *,
    tiles: Sequence[str | os.PathLike[str]] | None = None,
    browser: bool = True,
) -> None:
    """Show the results of a finished run in the browser, until Ctrl-C.

    Only the part of the stored results that is on the screen is read, at the resolution of the screen. `port` is that
    of this machine, 0 for any free one; other machines cannot reach it. `tiles` says where the tiles lie now, if not
    where run.json has them. `browser=False` opens no browser. Raises HsiError for a folder without a finished run, a
    port in use, and where bokeh is not installed.
    """
    server = serve(out, port, tiles=tiles)
    address = f"http://{HOST}:{server.port}/"
    print(f"{address} shows {Path(out)}; Ctrl-C ends it", flush=True)
    if browser:
        server.io_loop.add_callback(_browse, address)
    server.run_until_shutdown()  # until Ctrl-C


def serve(
    out: str | os.PathLike[str], port: int = 0, *, tiles: Sequence[str | os.PathLike[str]] | None = None
) -> Server:
    """Return the server of `view`, which listens; its loop does not run yet. Raises HsiError as `view` does."""
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise HsiError("the viewer needs bokeh, which is not installed; pip install 'hsichunk[view]'") from error
    from hsichunk.results.finished_run import open_results
    from hsichunk.results.viewer.maps import Maps
    from hsichunk.results.viewer.page import page

    maps = Maps(open_results(out), None if tiles is None else [os.fspath(tile) for tile in tiles])
    port = port or _free_port()
    try:
        server = Server(
            {"/": lambda document: page(document, maps)},
            address=HOST,
            port=port,
            # Other pages in the browser must not reach this one.
            allow_websocket_origin=[f"{HOST}:{port}", f"localhost:{port}"],
        )
    except OSError as error:
        raise HsiError(
            f"port {port} cannot be used ({error.strerror or error}); choose another, or 0 for any"
        ) from error
    server.start()
    return server


def _free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _browse(address: str) -> bool:
    import webbrowser

    return webbrowser.open(address)
