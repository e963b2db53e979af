"""Zarr stores in a folder of a web server.

A server may answer that something is elsewhere, and could so make this machine fetch from hosts that only it
can reach. Redirects are followed on the same host and port only, and answers are read up to a limit.
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
from .untrusted import too_long

_REDIRECTS = (301, 302, 303, 307, 308)
_HOPS = 5
_PIECE = 2**20
_CONNECTIONS = 32
_PORTS = {"http": 80, "https": 443}


class NotAllowedError(OSError):
    """The server wants credentials, or others."""


class WebStore(Store):  # type: ignore[misc]
    """A folder of a web server, read only.

    Args:
        url: of the folder.
        timeout: seconds for a request.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True  # though it lists nothing, so that the error is ours

    def __init__(self, url: str, timeout: float) -> None:
        super().__init__(read_only=True)
        self.url, self.timeout = url.rstrip("/"), timeout
        self._session = requests.Session()
        self._session.auth = _no_credentials  # which requests would take from ~/.netrc
        adapter = requests.adapters.HTTPAdapter(pool_connections=2, pool_maxsize=_CONNECTIONS)
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, adapter)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WebStore) and other.url == self.url

    __hash__ = None  # type: ignore[assignment]

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, most: int
    ) -> Buffer | None:
        """Return the bytes of a key, None where there is none.

        Raises:
            NotAllowedError: without credentials it may not be read.
            OSError: it cannot be read.
            UntrustedDataError: the server sends on to another host or port, or sends more than ``most``
                bytes.
        """
        data = await asyncio.to_thread(self._fetch, key, byte_range, most)
        return None if data is None else prototype.buffer.from_bytes(data)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, None where there is none."""
        return await self.fetch(key, prototype, byte_range, 2**63)

    def _fetch(self, key: str, byte_range: ByteRequest | None, most: int) -> bytes | None:
        deadline = time.monotonic() + self.timeout
        headers = {"Accept-Encoding": "identity"} | _range_header(byte_range)
        with self._answer(f"{self.url}/{quote(key)}", headers) as answer:
            status = answer.status_code
            if status in (404, 410):
                return None
            if status in (401, 403, 407):
                raise NotAllowedError(f"HTTP status {status}")
            if status not in (200, 206):
                raise OSError(f"HTTP status {status}")
            if answer.headers.get("Content-Encoding", "identity") != "identity":
                raise OSError("the server changes what it sends")
            data = _body(answer, most, deadline, (self.url, key))
        return _part(data, byte_range) if status == 200 else data

    def _answer(self, url: str, headers: dict[str, str]) -> requests.Response:
        origin = _origin(url)
        for _ in range(_HOPS):
            answer = self._session.get(
                url,
                headers=headers,
                timeout=(min(10.0, self.timeout), self.timeout),
                stream=True,
                allow_redirects=False,
            )
            if answer.status_code not in _REDIRECTS or "Location" not in answer.headers:
                return answer
            answer.close()
            url = urljoin(url, answer.headers["Location"])
            if _origin(url) != origin:
                parts = urlsplit(url)
                raise UntrustedDataError(
                    f"{self.url} sends on to another host or port, {parts.scheme}://{parts.netloc.rpartition('@')[2]}; "
                    "give that address itself if you trust it"
                )
        raise OSError(f"more than {_HOPS} redirects")

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return some pieces."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Return whether there is a file of this key."""
        with await asyncio.to_thread(
            self._answer, f"{self.url}/{quote(key)}", {"Range": "bytes=0-0"}
        ) as answer:
            return answer.status_code in (200, 206)

    async def set(self, key: str, value: Buffer) -> NoReturn:
        """Raise, since it is only read."""
        raise NotImplementedError("a web server is only read")

    async def delete(self, key: str) -> NoReturn:
        """Raise, since it is only read."""
        raise NotImplementedError("a web server is only read")

    def list(self) -> AsyncIterator[str]:
        """Raise, since a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Raise, since a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Raise, since a web server lists no folders."""
        raise NotImplementedError("a web server lists no folders")


def web_store(url: str) -> WebStore:
    """Return a store to read from a web server; ``FOURCASTER_TIMEOUT`` gives the seconds for a request."""
    return WebStore(url, float(os.environ.get("FOURCASTER_TIMEOUT", "30")))


def _no_credentials(request: Any) -> Any:
    return request


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _range_header(byte_range: ByteRequest | None) -> dict[str, str]:
    if isinstance(byte_range, RangeByteRequest):
        return {"Range": f"bytes={byte_range.start}-{byte_range.end - 1}"}
    if isinstance(byte_range, OffsetByteRequest):
        return {"Range": f"bytes={byte_range.offset}-"}
    return {"Range": f"bytes=-{byte_range.suffix}"} if isinstance(byte_range, SuffixByteRequest) else {}


def _part(data: bytes, byte_range: ByteRequest | None) -> bytes:
    """Return the requested part of what a server that knows no ranges has sent."""
    if isinstance(byte_range, RangeByteRequest):
        return data[byte_range.start : byte_range.end]
    if isinstance(byte_range, OffsetByteRequest):
        return data[byte_range.offset :]
    return (
        data[max(0, len(data) - byte_range.suffix) :] if isinstance(byte_range, SuffixByteRequest) else data
    )


def _body(answer: requests.Response, most: int, deadline: float, name: tuple[str, str]) -> bytes:
    """Return the bytes of an answer, read until a deadline and up to a limit."""
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and int(length) > most:
        raise too_long(*name, int(length), most)
    read = getattr(answer.raw, "read1", answer.raw.read)  # what has come, so that the deadline counts
    pieces = []
    count = 0
    while piece := read(_PIECE, decode_content=False):
        pieces.append(piece)
        count += len(piece)
        if count > most:
            raise too_long(*name, count, most)
        if time.monotonic() > deadline:
            raise TimeoutError("the server sends too slowly")
    if length.isdecimal() and count < int(length):
        raise OSError("the answer broke off")
    return b"".join(pieces)
