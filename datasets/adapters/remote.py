"""Zarr stores in local folders, in buckets (``s3://``, ``gs://``) and on web servers (``http(s)://``).

Stores are untrusted: metadata are validated before the zarr library reads them, keys cannot leave the store,
and no more bytes are read than the metadata declare. Remote reads are retried and kept in a bounded disk
cache. Credentials come from the cloud provider's environment variables and files, never from a URL; without
credentials, requests are unsigned.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import ObjectStore, WrapperStore

from ..errors import IncompleteDataError, UntrustedDataError
from ..store.icechunk import is_repository, repository_store
from . import metadata
from .cache import CACHE_BYTES, DiskCache
from .links import FolderStore, check_folder_tree
from .untrusted import METADATA_BYTES, DeclaredChunks, memory_limit, oversized_error
from .web import AccessDeniedError, WebStore, web_store

if TYPE_CHECKING:
    from obstore.store import ClientConfig, GCSStore, RetryConfig, S3Store

__all__ = ["CACHE_BYTES", "CheckedStore", "DiskCache", "check_url", "connect", "open_source"]

TRIES = 6  # attempts of a remote read
_CREDENTIALS = {
    "s3": (
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    ),
    "gs": ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY"),
}
_FILES = {"s3": "~/.aws/credentials", "gs": "~/.config/gcloud/application_default_credentials.json"}
_UNSIGNED = {"s3": "AWS_SKIP_SIGNATURE", "gs": "GOOGLE_SKIP_SIGNATURE"}


def open_source(
    path: str | Path, complete: bool = True, *, follow_links: bool = False, memory: int | None = None
) -> "CheckedStore":
    """Return a checked, read-only store for a folder or URL.

    Args:
        path: folder or URL.
        complete: raise ``IncompleteDataError`` for a missing chunk, which zarr would read as fill values.
        follow_links: whether to follow links in a folder that lead out of it.
        memory: memory limit [bytes]; ``memory_limit()`` by default.

    Raises:
        ValueError: the URL is not valid or contains credentials, or a package is missing.
    """
    path = str(path)
    memory = memory or memory_limit()
    if "://" not in path and is_repository(path):
        check_folder_tree(path, follow_links)
        return CheckedStore(repository_store(path), path, complete=False, memory=memory)
    if "://" not in path:
        return CheckedStore(FolderStore(path, follow_links), path, complete, memory=memory)
    check_url(path)
    store = web_store(path) if path.startswith("http") else CloudStore(connect(path), read_only=True)
    return CheckedStore(store, path, complete, cache=DiskCache.of_user(), tries=TRIES, memory=memory)


def check_url(path: str) -> None:
    """Check the scheme of a URL, and that it contains no credentials.

    Raises:
        ValueError: the scheme is unknown, or there are credentials, which the message does not repeat.
    """
    parts = urlsplit(path)
    if parts.username or parts.password or parts.query:
        raise ValueError(
            f"the URL on {parts.hostname} contains a user name, password or query; "
            "remove it and pass credentials in the environment, e.g. AWS_ACCESS_KEY_ID"
        )
    if parts.scheme not in ("s3", "gs", "http", "https"):
        raise ValueError(f"{path}: unknown scheme {parts.scheme}://; use s3://, gs:// or https://")


def connect(path: str) -> "S3Store | GCSStore":
    """Return the obstore store of a bucket.

    Raises:
        ValueError: the URL is not valid or contains credentials, or a package is missing.
    """
    check_url(path)
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import GCSStore, S3Store
    except ImportError as error:
        raise ValueError("a URL needs one more package: pip install 'fourcaster[remote]'") from error
    scheme = urlsplit(path).scheme
    timeout = float(os.environ.get("FOURCASTER_TIMEOUT", "30"))
    options: ClientConfig = {
        "timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=min(10.0, timeout)),
        "allow_http": True,
    }
    # One retry of failed requests by obstore; ``CheckedStore`` also retries bodies that were interrupted.
    retries: RetryConfig = {"max_retries": 1, "retry_timeout": timedelta(seconds=2 * timeout)}
    if scheme not in _UNSIGNED:
        raise ValueError(f"{path} is not the URL of a bucket; use s3:// or gs://")
    cloud: type[S3Store] | type[GCSStore] = {"s3": S3Store, "gs": GCSStore}[scheme]
    credentials: dict[str, Any] = (
        {} if _UNSIGNED[scheme] in os.environ or _signed(scheme) else {"skip_signature": True}
    )
    try:
        if scheme == "s3" and _signed("s3") and "AWS_ACCESS_KEY_ID" not in os.environ:
            # Unlike obstore, it supports profiles and roles.
            credentials["credential_provider"] = Boto3CredentialProvider()
        return cloud.from_url(path, client_options=options, retry_config=retries, **credentials)
    except Exception as error:  # botocore and obstore raise many types
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be opened with the credentials of the environment: {reason}"
        ) from error


def _signed(scheme: str) -> bool:
    """Return whether the environment has credentials for a scheme."""
    in_environment = any(name in os.environ for name in _CREDENTIALS[scheme])
    return in_environment or Path(_FILES[scheme]).expanduser().exists()


class CloudStore(ObjectStore):
    """A bucket whose objects are read up to an expected size."""

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, *, max_bytes: int
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist; arguments as for ``FolderStore.fetch``.

        Raises:
            UntrustedDataError: the object is longer than ``max_bytes``.
        """
        import obstore

        if byte_range is not None:
            return await self.get(key, prototype, byte_range)
        try:
            response = await obstore.get_async(self.store, key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        if response.meta["size"] > max_bytes:
            raise oversized_error(str(self.store), key, response.meta["size"], max_bytes=max_bytes)
        return prototype.buffer.from_bytes(memoryview(await response.bytes_async()))


class CheckedStore(WrapperStore[Store]):
    """A read-only store that validates metadata, bounds reads and retries with exponential backoff.

    Args:
        store: underlying store.
        name: path or URL, for error messages.
        complete: whether a missing chunk is an error.
        cache: disk cache of chunks, None for no cache.
        tries: attempts per read.
        memory: memory limit [bytes]; ``memory_limit()`` by default.

    Attributes:
        memory: memory limit [bytes].
        arrays: chunk sizes declared by the metadata read so far, by path of the array.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        complete: bool,
        *,
        cache: DiskCache | None = None,
        tries: int = 1,
        memory: int | None = None,
    ) -> None:
        super().__init__(store)
        self.name = name
        self.complete = complete
        self.cache = cache
        self.tries = tries
        self.memory = memory or memory_limit()
        self.arrays: dict[str, DeclaredChunks] = {}
        self._metadata: dict[str, str] = {}
        self._version = ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"arrays": self.arrays, "_metadata": self._metadata, "_version": self._version}
        if not isinstance(self._store, FolderStore) and "://" not in self.name:
            return CheckedStore, (self._store, self.name, self.complete), state | {"memory": self.memory}
        reopen = partial(
            open_source, complete=self.complete, follow_links=self.follow_links, memory=self.memory
        )
        return reopen, (self.name,), state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def folder(self) -> FolderStore | None:
        """The local folder, or None for a remote store."""
        return self._store if isinstance(self._store, FolderStore) else None

    @property
    def follow_links(self) -> bool:
        """Whether links that lead out of the local folder are followed."""
        return self.folder is not None and self.folder.follow_links

    def with_read_only(self, read_only: bool = False) -> "CheckedStore":
        """Return the store itself, which is always read only."""
        return self

    def declared(self, key: str) -> DeclaredChunks | None:
        """Return the declaration of the array of a chunk, or None if its metadata were not read."""
        end = len(key)
        while end > 0:
            end = key.rfind("/", 0, end)
            if (declared := self.arrays.get(key[: max(end, 0)])) is not None:
                return declared
        return None

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key, or None if it does not exist.

        Raises:
            IncompleteDataError: a chunk is missing and the store is opened as ``complete``.
            OSError: the key cannot be read.
            UntrustedDataError: the key leads out of the store, its metadata are not allowed, or it is too
                long.
        """
        prototype = prototype or default_buffer_prototype()
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise UntrustedDataError(
                f"{self.name} has a chunk key {key[:120]!r}, which may lie outside of it"
            )
        if key.rpartition("/")[2] in metadata.FILES:
            return await self._get_metadata(key, prototype)
        entry = f"{self.name} {self._version} {key} {byte_range}"
        if self.cache is not None and (cached := self.cache.get(entry)) is not None:
            return prototype.buffer.from_bytes(cached)
        declared = self.declared(key)
        value = await self._fetch_with_retries(
            key,
            prototype,
            byte_range,
            max_bytes=declared.file_bytes if declared else self.memory // 4,
        )
        if value is None and self.complete:
            raise IncompleteDataError(
                f"{self.name} lacks the chunk {key}, which zarr would read as fill values; "
                "download it again, or pass allow_missing=True if fill values are intended",
                option="allow_missing",
            )
        if value is not None and self.cache is not None:
            self.cache.put(entry, value.to_bytes())
        return value

    async def _get_metadata(self, key: str, prototype: BufferPrototype) -> Buffer | None:
        """Return a metadata file, after validating it and recording the chunk sizes that it declares."""
        value = await self._fetch_with_retries(key, prototype, None, max_bytes=METADATA_BYTES)
        if value is not None:
            data = value.to_bytes()
            arrays = await asyncio.to_thread(metadata.check, self.name, key, data, memory=self.memory)
            self.arrays |= arrays
            # Cached chunks are valid only for this version of the metadata.
            self._metadata[key] = hashlib.sha256(data).hexdigest()
            self._version = str(sorted(self._metadata.items()))
        return value

    async def _fetch_with_retries(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, *, max_bytes: int
    ) -> Buffer | None:
        if (
            isinstance(byte_range, RangeByteRequest)
            and not 0 <= byte_range.end - byte_range.start <= max_bytes
        ):
            raise UntrustedDataError(
                f"{self.name}: the index of {key} refers to bytes beyond its end; download it again"
            )
        for attempt in range(self.tries):
            try:
                return await self._fetch(key, prototype, byte_range, max_bytes=max_bytes)
            except UntrustedDataError:
                raise
            except Exception as error:  # obstore raises many types
                if isinstance(error, _access_errors()):
                    raise OSError(
                        f"{self.name}: access denied with these credentials, or without any; "
                        "check the credentials and the name"
                    ) from None
                if attempt + 1 == self.tries:
                    if self.tries == 1:
                        raise
                    reason = type(error).__name__.removesuffix("Error").lower()
                    raise OSError(
                        f"{self.name}: {key} could not be read in {self.tries} tries ({reason}); "
                        "run it again to resume"
                    ) from None
            await asyncio.sleep(0.1 * 2**attempt)
        return None

    async def _fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, *, max_bytes: int
    ) -> Buffer | None:
        if isinstance(self._store, FolderStore | CloudStore | WebStore):
            return await self._store.fetch(key, prototype, byte_range, max_bytes=max_bytes)
        return await self._store.get(key, prototype, byte_range)

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield the names in a folder; a web server cannot list them."""
        if self.name.startswith("http"):
            raise OSError(
                f"{self.name} has no consolidated metadata, and a web server lists no folders; "
                "run zarr.consolidate_metadata where the store was written"
            )
        async for name in self._store.list_dir(prefix):
            yield name

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Return the bytes of several keys and ranges, see ``get``."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))


def _access_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions for missing or insufficient credentials."""
    try:
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError
    except ImportError:
        return (AccessDeniedError,)
    return AccessDeniedError, PermissionDeniedError, UnauthenticatedError
