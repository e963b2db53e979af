"""Zarr stores on a web server.

A redirect could make this machine send requests to hosts that only it can reach (server-side request
forgery), so redirects are followed on the same host and port only. Responses are read up to a size limit.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, NoReturn
from urllib.parse import quote, urljoin, urlsplit

import requests
from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from ..errors import UntrustedDataError
from .untrusted import oversized_error

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_READ_BYTES = 2**20
_CONNECTIONS = 32
_PORTS = {"http": 80, "https": 443}


class AccessDeniedError(OSError):
    """The server requires credentials, or rejects those it got."""


class WebStore(Store):
    """A read-only zarr store on a web server.

    Args:
        url: URL of the store.
        timeout: seconds allowed for a request.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True  # although it raises, so that zarr reports our error

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(read_only=True)
        self.url = url.rstrip("/")
        self.timeout = timeout
        self._session = requests.Session()
        self._session.auth = _no_credentials  # requests would read them from ~/.netrc
        adapter = requests.adapters.HTTPAdapter(pool_connections=2, pool_maxsize=_CONNECTIONS)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebStore) and other.url == self.url

    __hash__ = None  # type: ignore[assignment]

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, *, max_bytes: int
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist; arguments as for ``FolderStore.fetch``.

        Raises:
            AccessDeniedError: the server requires credentials.
            OSError: the key cannot be read.
            UntrustedDataError: the server redirects to another host or port, or sends more than
                ``max_bytes`` bytes.
        """
        data = await asyncio.to_thread(self._fetch, key, byte_range, max_bytes)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist."""
        return await self.fetch(key, prototype, byte_range, max_bytes=2**63)

    def _fetch(self, key: str, byte_range: ByteRequest | None, max_bytes: int) -> bytes | None:
        deadline = time.monotonic() + self.timeout
        headers = {"Accept-Encoding": "identity"} | _range_header(byte_range)
        with self._get(f"{self.url}/{quote(key)}", headers) as response:
            status = response.status_code
            if status in (404, 410):
                return None
            if status in (401, 403, 407):
                raise AccessDeniedError(f"HTTP status {status}")
            if status not in (200, 206):
                raise OSError(f"HTTP status {status}")
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise OSError("the server applies a content encoding that was not requested")
            data = _body(response, max_bytes, deadline, name=(self.url, key))
        return _part(data, byte_range) if status == 200 else data

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        origin = _origin(url)
        for _ in range(_MAX_REDIRECTS):
            response = self._session.get(
                url,
                headers=headers,
                timeout=(min(10.0, self.timeout), self.timeout),
                stream=True,
                allow_redirects=False,
            )
            if response.status_code not in _REDIRECTS or "Location" not in response.headers:
                return response
            response.close()
            url = urljoin(url, response.headers["Location"])
            if _origin(url) != origin:
                parts = urlsplit(url)
                raise UntrustedDataError(
                    f"{self.url} redirects to another host or port, "
                    f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}; use that address if you trust it"
                )
        raise OSError(f"more than {_MAX_REDIRECTS} redirects")

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the bytes of several keys and ranges, see ``get``."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Return whether a key exists."""
        with await asyncio.to_thread(
            self._get, f"{self.url}/{quote(key)}", {"Range": "bytes=0-0"}
        ) as response:
            return response.status_code in (200, 206)

    async def set(self, key: str, value: Buffer) -> NoReturn:
        """Raise ``NotImplementedError``: the store is read only."""
        raise NotImplementedError("a web server is read only")

    async def delete(self, key: str) -> NoReturn:
        """Raise ``NotImplementedError``: the store is read only."""
        raise NotImplementedError("a web server is read only")

    def list(self) -> AsyncIterator[str]:
        """Raise ``NotImplementedError``: a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Raise ``NotImplementedError``: a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Raise ``NotImplementedError``: a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")


def web_store(url: str) -> WebStore:
    """Return a store on a web server; ``FOURCASTER_TIMEOUT`` sets the timeout of a request in seconds."""
    return WebStore(url, float(os.environ.get("FOURCASTER_TIMEOUT", "30")))


def _no_credentials(request: Any) -> Any:
    """Return a request unchanged, in place of an authentication handler."""
    return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _range_header(byte_range: ByteRequest | None) -> dict[str, str]:
    """Return the header that requests a part of a file; empty for all of it."""
    if isinstance(byte_range, RangeByteRequest):
        return {"Range": f"bytes={byte_range.start}-{byte_range.end - 1}"}
    if isinstance(byte_range, OffsetByteRequest):
        return {"Range": f"bytes={byte_range.offset}-"}
    return {"Range": f"bytes=-{byte_range.suffix}"} if isinstance(byte_range, SuffixByteRequest) else {}


def _part(data: bytes, byte_range: ByteRequest | None) -> bytes:
    """Return the requested range of the whole file, as sent by a server that does not support ranges."""
    if isinstance(byte_range, RangeByteRequest):
        return data[byte_range.start : byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return data[byte_range.offset :]
    if isinstance(byte_range, SuffixByteRequest):
        return data[max(0, len(data) - byte_range.suffix) :]
    return data


def _body(response: requests.Response, max_bytes: int, deadline: float, *, name: tuple[str, str]) -> bytes:
    """Return the body of a response, read until a deadline and up to a size limit."""
    length = response.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise oversized_error(*name, int(length), max_bytes=max_bytes)
    # Read what has arrived and not a full buffer, so that the deadline is checked.
    read = getattr(response.raw, "read1", response.raw.read)
    pieces = []
    count = 0
    while piece := read(_READ_BYTES, decode_content=False):
        pieces.append(piece)
        count += len(piece)
        if count > max_bytes:
            raise oversized_error(*name, count, max_bytes=max_bytes)
        if time.monotonic() > deadline:
            raise TimeoutError("the server sends too slowly")
    if length.isdecimal() and count < int(length):
        raise OSError("the response was cut off")
    return b"".join(pieces)
