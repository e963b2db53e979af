"""Chromium without a window, driven by ChromeDriver: opens a page, asks it things, takes its picture."""

import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


class Page:
    """A browser with one page."""

    def __init__(self, server: str) -> None:
        self._server = server
        capabilities = {
            "alwaysMatch": {
                "goog:chromeOptions": {"args": _ARGUMENTS},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        self._session = (
            f"{server}/session/{self._ask(f'{server}/session', {'capabilities': capabilities})['sessionId']}"
        )

    def _ask(self, url: str, values: dict | None = None, method: str | None = None):
        data = None if values is None else json.dumps(values).encode()
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method), timeout=60
        ) as answer:
            return json.load(answer)["value"]

    def open(self, path: Path, width: int = 1100, height: int = 1400) -> None:
        self._ask(f"{self._session}/window/rect", {"width": width, "height": height})
        self._ask(f"{self._session}/url", {"url": path.absolute().as_uri()})

    def tell(self, script: str):
        """Return the value of an expression."""
        return self._ask(f"{self._session}/execute/sync", {"script": f"return {script}", "args": []})

    def complaints(self) -> list[dict]:
        return self._ask(f"{self._session}/se/log", {"type": "browser"})

    def photograph(self, output: Path) -> None:
        output.write_bytes(base64.b64decode(self._ask(f"{self._session}/screenshot")))

    def close(self) -> None:
        self._ask(self._session, method="DELETE")


@contextmanager
def browser():
    """Give a page, or skip where there is no ChromeDriver."""
    driver = shutil.which("chromedriver")
    if driver is None:
        pytest.skip("chromedriver is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(300):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            page = Page(f"http://127.0.0.1:{port}")
            yield page
            page.close()
        finally:
            process.terminate()
