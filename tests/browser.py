"""Headless Chromium controlled through ChromeDriver: load pages, evaluate scripts, take screenshots."""

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

_OPTIONS = [
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
                "goog:chromeOptions": {"args": _OPTIONS},
                "goog:loggingPrefs": {"browser": "ALL"},
            }
        }
        reply = self._request(f"{server}/session", {"capabilities": capabilities})
        self._session = f"{server}/session/{reply['sessionId']}"

    def _request(self, url: str, payload: dict | None = None, method: str | None = None):
        data = None if payload is None else json.dumps(payload).encode()
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method), timeout=60
        ) as response:
            return json.load(response)["value"]

    def open(self, path: Path, width: int = 1100, height: int = 1400) -> None:
        self._request(f"{self._session}/window/rect", {"width": width, "height": height})
        self._request(f"{self._session}/url", {"url": path.absolute().as_uri()})

    def evaluate(self, script: str):
        """Return the value of a JavaScript expression."""
        return self._request(f"{self._session}/execute/sync", {"script": f"return {script}", "args": []})

    def console_messages(self) -> list[dict]:
        return self._request(f"{self._session}/se/log", {"type": "browser"})

    def screenshot(self, output: Path) -> None:
        output.write_bytes(base64.b64decode(self._request(f"{self._session}/screenshot")))

    def close(self) -> None:
        self._request(self._session, method="DELETE")


@contextmanager
def browser():
    """Yield a page, or skip if ChromeDriver is not installed."""
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
