"""A page on this machine to look around in the results of a run: `view`. Needs the extra `view` (bokeh)."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Shows the results of a finished run in the browser, until Ctrl-C.

    Maps are drawn from the part of the stored results that is looked at, at the resolution of the screen. `port` 0 is
    any free one of this machine, which no other can reach. `tiles` says where the tiles lie now, if not where run.json
    has them. Raises HsiError for a folder without a finished run, a port in use, and where bokeh is not installed.
    """
    server = serve(out, port, tiles=tiles)
    address = f"http://{HOST}:{server.port}/"
    print(f"{address} shows {Path(out)}; Ctrl-C ends it", flush=True)
    if browser:
        server.io_loop.add_callback(_browse, address)
    server.run_until_shutdown()  # and stops at Ctrl-C


def serve(
    out: str | os.PathLike[str], port: int = 0, *, tiles: Sequence[str | os.PathLike[str]] | None = None
) -> Server:
    """The server of `view`, listening, its loop not yet running."""
    try:
        from bokeh.server.server import Server
    except ImportError as error:
        raise HsiError("the viewer needs bokeh, which is not installed; pip install 'hsichunk[view]'") from error
    from hsichunk.results.finished_run import open_results
    from hsichunk.results.viewer.maps import Maps
    from hsichunk.results.viewer.page import page

    maps = Maps(open_results(out), None if tiles is None else [os.fspath(tile) for tile in tiles])
    port = port or _free()
    try:
        server = Server(
            {"/": lambda document: page(document, maps)},
            address=HOST,
            port=port,
            # other pages that the browser shows must not reach this one
            allow_websocket_origin=[f"{HOST}:{port}", f"localhost:{port}"],
        )
    except OSError as error:
        raise HsiError(
            f"port {port} cannot be used ({error.strerror or error}); choose another, or 0 for any"
        ) from error
    server.start()
    return server


def _free() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _browse(address: str) -> Any:
    import webbrowser

    return webbrowser.open(address)
