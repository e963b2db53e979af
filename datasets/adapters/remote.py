"""Zarr stores behind ``s3://``, ``gs://``, ``http://`` and ``https://``: retried, kept in a bounded cache, and without secrets in any text.

Credentials come from the cloud's own environment variables and files, never from a URL; where there are none, requests go unsigned.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pooch
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore, ObjectStore, WrapperStore

from ..schema import Incomplete

TRIES = 6
CACHE_BYTES = 2**31
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_CREDENTIALS = {
    "s3": ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
}
_FILES = {"s3": "~/.aws/credentials", "gs": "~/.config/gcloud/application_default_credentials.json"}
_UNSIGNED = {"s3": "AWS_SKIP_SIGNATURE", "gs": "GOOGLE_SKIP_SIGNATURE"}


def open_source(path: str, complete: bool = True) -> Store:
    """Return a store to read from a folder or URL.

    Args:
        path: folder or URL.
        complete: raise ``Incomplete`` where a chunk is missing, which zarr would take for fill values.

    Raises:
        ValueError: a URL that is not understood or holds credentials, or a package is missing.
    """
    if "://" not in path:
        return Source(LocalStore(path, read_only=True), path, complete)
    return Source(ObjectStore(connect(path), read_only=True), path, complete, DiskCache.of_user(), TRIES)


def check_url(path: str) -> None:
    """Raise ``ValueError`` for a URL that holds credentials, without repeating them, or of an unknown kind."""
    parts = urlsplit(path)
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f"the URL on {parts.hostname} holds a name, key or query; leave it out and give credentials by the environment, e.g. AWS_ACCESS_KEY_ID"
        )
    if parts.scheme not in ("s3", "gs", "http", "https"):
        raise ValueError(f"{path}: {parts.scheme}:// is not known; use s3://, gs:// or https://")


def connect(path: str) -> Any:
    """Return obstore's store of a bucket or web folder.

    Raises:
        ValueError: a URL that is not understood or holds credentials, or a package is missing.
    """
    check_url(path)
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import GCSStore, HTTPStore, S3Store
    except ImportError as error:
        raise ValueError("a URL needs one more package: pip install 'fourcaster[remote]'") from error
    scheme = urlsplit(path).scheme
    timeout = float(os.environ.get("FOURCASTER_TIMEOUT", "30"))
    options: Any = {"timeout": timedelta(seconds=timeout), "connect_timeout": timedelta(seconds=min(10.0, timeout)), "allow_http": True}
    # Retried once here, since an error there is of the request and one below of a body that broke off.
    retries: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=2 * timeout)}
    if scheme.startswith("http"):
        return HTTPStore.from_url(path, client_options=options, retry_config=retries)
    cloud: Any = {"s3": S3Store, "gs": GCSStore}[scheme]
    given: dict[str, Any] = {} if _UNSIGNED[scheme] in os.environ or _signed(scheme) else {"skip_signature": True}
    try:
        if scheme == "s3" and _signed("s3") and "AWS_ACCESS_KEY_ID" not in os.environ:
            given["credential_provider"] = Boto3CredentialProvider()  # knows profiles and roles, which obstore does not
        return cloud.from_url(path, client_options=options, retry_config=retries, **given)
    except Exception as error:  # of botocore and obstore, which have many
        raise ValueError(f"{path} cannot be reached with the credentials that the environment names: {' '.join(str(error).split())[:200]}") from error


def _signed(scheme: str) -> bool:
    return any(name in os.environ for name in _CREDENTIALS[scheme]) or Path(_FILES[scheme]).expanduser().exists()


class Source(WrapperStore[Store]):  # type: ignore[misc]
    """A store to read from: failed reads are tried again with growing pauses, and a missing chunk is an error.

    Args:
        store: where the bytes are.
        name: named in errors.
        complete: raise where a chunk is missing.
        cache: where chunks that were read are kept.
        tries: how often a read is tried.
    """

    def __init__(self, store: Store, name: str, complete: bool, cache: "DiskCache | None" = None, tries: int = 1) -> None:
        super().__init__(store)
        self.name, self.complete, self.cache, self.tries = name, complete, cache, tries
        self._metadata: dict[str, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.name, self.complete, self._metadata)

    def with_read_only(self, read_only: bool = False) -> "Source":
        """Return itself, which only reads."""
        return self

    async def get(self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return the bytes of a key; None where it is no chunk and there is none."""
        prototype = prototype or default_buffer_prototype()
        chunk = key.rsplit("/", 1)[-1] not in _METADATA
        named = f"{self.name} {sorted(self._metadata.items())} {key} {byte_range}"
        if chunk and self.cache is not None and (held := self.cache.get(named)) is not None:
            return prototype.buffer.from_bytes(held)
        value = await self._tried(key, prototype, byte_range)
        if value is None and chunk and self.complete:
            raise Incomplete(
                f"{self.name} lacks the chunk {key}, which zarr would read as fill values; fetch it again, or pass --allow-missing if that is meant"
            )
        if value is not None and not chunk:
            # What is cached belongs to the store as its metadata describe it now.
            self._metadata[key] = hashlib.sha256(value.to_bytes()).hexdigest()
        elif value is not None and self.cache is not None:
            self.cache.put(named, value.to_bytes())
        return value

    async def _tried(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None) -> Buffer | None:
        for attempt in range(self.tries):
            try:
                return await self._store.get(key, prototype, byte_range)
            except Exception as error:  # of obstore, which has many
                if "PermissionDenied" in type(error).__name__ or "Unauthenticated" in type(error).__name__:
                    raise OSError(f"{self.name} may not be read with these credentials, or without any; check them and the name") from None
                if attempt + 1 == self.tries:
                    if self.tries == 1:
                        raise
                    reason = type(error).__name__.removesuffix("Error").lower()
                    raise OSError(
                        f"{self.name}: {key} could not be read in {self.tries} tries ({reason}); run it again, it goes on from here"
                    ) from None
            await asyncio.sleep(0.1 * 2**attempt)
        return None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder; a web server cannot."""
        if self.name.startswith("http"):
            raise OSError(
                f"{self.name} has no consolidated metadata and a web server lists no folders; run zarr.consolidate_metadata where it is written"
            )
        async for name in self._store.list_dir(prefix):
            yield name

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Any) -> list[Buffer | None]:
        """Return some pieces, each as ``get`` does."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in cast("Sequence[Any]", key_ranges)))


def _restored(name: str, complete: bool, metadata: dict[str, str]) -> Source:
    made = cast("Source", open_source(name, complete))
    made._metadata = metadata
    return made


class DiskCache:
    """Bytes kept in a folder, those used longest ago dropped where it grows too large.

    Args:
        folder: where.
        limit: most bytes.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        folder.mkdir(parents=True, exist_ok=True)
        self._held = sum(p.stat().st_size for p in self._files())

    @classmethod
    def of_user(cls) -> "DiskCache | None":
        """Return the user's cache: ``FOURCASTER_CACHE_BYTES`` bounds it (none if 0), ``FOURCASTER_CACHE`` moves it."""
        limit = int(os.environ.get("FOURCASTER_CACHE_BYTES", CACHE_BYTES))
        return cls(Path(os.environ.get("FOURCASTER_CACHE") or pooch.os_cache("fourcaster")) / "remote", limit) if limit else None

    def _files(self) -> list[Path]:
        return [p for p in self.folder.iterdir() if not p.name.endswith(".tmp")]

    def _path(self, name: str) -> Path:
        return self.folder / hashlib.sha256(name.encode()).hexdigest()

    def get(self, name: str) -> bytes | None:
        """Return what is kept under a name; None where nothing is, or where it was damaged."""
        path = self._path(name)
        try:
            digest, value = (whole := path.read_bytes())[:32], whole[32:]
            if hashlib.sha256(value).digest() != digest:
                path.unlink(missing_ok=True)
                return None
            os.utime(path)
        except OSError:
            return None
        return value

    def put(self, name: str, value: bytes) -> None:
        """Keep bytes; without room for them, do not."""
        if len(value) > self.limit // 2:
            return
        path = self._path(name)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.{id(value)}.tmp")
        try:
            temporary.write_bytes(hashlib.sha256(value).digest() + value)
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            return
        self._held += len(value) + 32
        if self._held > self.limit:
            self._drop()

    def _drop(self) -> None:
        """Remove what was used longest ago until a tenth is free."""
        stats = []
        for path in self._files():
            with suppress(OSError):
                stat = path.stat()
                stats.append((stat.st_mtime_ns, stat.st_size, path))
        self._held = sum(size for _, size, _ in stats)
        for _, size, path in sorted(stats):
            if self._held <= 0.9 * self.limit:
                return
            path.unlink(missing_ok=True)
            self._held -= size
