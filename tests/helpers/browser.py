"""A headless Chromium for tests, driven by its own protocol: what it shows, asks for and complains about."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60.0


def chromium() -> str:
    """Skips the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no Chromium is installed ({', '.join(NAMES)})")
    return found


class Browser:
    """One tab. `complaints`: errors of the console and of loading; `asked`: addresses that the page asked for."""

    def __init__(self, folder: Path, width: int = 1300, height: int = 950) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._log = folder / "chromium.log"
        how = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
        quiet = ("--disable-background-networking", "--disable-sync", "--disable-extensions", "--hide-scrollbars")
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [
                    chromium(), *how, *quiet, f"--window-size={width},{height}", "--remote-debugging-port=0",
                    f"--user-data-dir={folder / 'profile'}", "about:blank",
                ],
                stdout=log, stderr=log,
            )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)  # which closing the socket asks for
        self._number = 0
        try:
            self._socket = self._loop.run_until_complete(self._connect())
            for domain in ("Runtime", "Log", "Network", "Page"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if hasattr(self, "_socket"):
            self._socket.close()
            self._loop.run_until_complete(asyncio.sleep(0.1))
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        asyncio.set_event_loop(None)
        self._loop.close()

    async def _connect(self) -> Any:
        from tornado.httpclient import AsyncHTTPClient
        from tornado.websocket import websocket_connect

        until = time.monotonic() + SECONDS
        while not (found := re.search(r"ws://127\.0\.0\.1:(\d+)/", self._log.read_text(errors="replace"))):
            assert time.monotonic() < until, self._log.read_text(errors="replace")[-500:]
            await asyncio.sleep(0.1)
        while True:
            answer = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{found[1]}/json")
            pages = [each for each in json.loads(answer.body) if each["type"] == "page"]
            if pages:
                return await websocket_connect(pages[0]["webSocketDebuggerUrl"], max_message_size=200 << 20)
            assert time.monotonic() < until
            await asyncio.sleep(0.1)

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """What a method of the protocol answers; events that come before are noted."""
        self._number += 1
        self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            message = self._read(SECONDS)
            if message.get("id") == self._number:
                assert "error" not in message, (method, message)
                return dict(message["result"])

    def listen(self, seconds: float) -> None:
        """Notes what happens."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                self._read(left)
            except TimeoutError:
                return

    def _read(self, seconds: float) -> dict[str, Any]:
        # the same read goes on after a timeout: none of it is lost
        if getattr(self, "_next", None) is None:
            self._next = asyncio.ensure_future(_message(self._socket), loop=self._loop)
        text = self._loop.run_until_complete(asyncio.wait_for(asyncio.shield(self._next), seconds))
        self._next = None
        assert text is not None, "Chromium is gone"
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method: str | None, given: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.asked.append(given["request"]["url"])
        elif method == "Network.webSocketCreated":
            self.asked.append(given["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(given["exceptionDetails"])[:500])
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "assert"):
            self.complaints.append(json.dumps(given["args"])[:500])
        elif method == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.complaints.append(json.dumps(given["entry"])[:500])

    def open(self, address: str) -> None:
        self.call("Page.navigate", url=address)
        self.until("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = SECONDS) -> Any:
        """The value of a script as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.evaluate(script)):
            assert time.monotonic() < end, f"not within {seconds} s: {script}; {self.complaints}"
            self.listen(0.1)
        return value

    def click(self, x: float, y: float) -> None:
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
            self.listen(0.05)

    def screenshot(self, path: Path, whole: bool = False) -> Path:
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path


async def _message(socket: Any) -> Any:
    return await socket.read_message()
