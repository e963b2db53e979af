"""Zarr stores to read from: folders, and what is behind ``s3://``, ``gs://``, ``http://`` and ``https://``.

Nothing in a store is trusted: its metadata are checked before the zarr library sees them, keys stay within
the store, and no more bytes are read than the metadata declare. Remote reads are tried again and kept in a
bounded cache. Credentials come from the cloud's own environment variables and files, never from a URL; where
there are none, requests go unsigned.
"""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import ObjectStore, WrapperStore

from ..errors import IncompleteDataError, UntrustedDataError
from ..store.icechunk import is_repository, repository_store
from . import metadata
from .cache import CACHE_BYTES, DiskCache
from .links import FolderStore, check_tree
from .untrusted import METADATA_BYTES, Declared, memory_limit, too_long
from .web import WebStore, web_store

__all__ = ["CACHE_BYTES", "DiskCache", "Source", "check_url", "connect", "open_source"]

TRIES = 6
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
) -> "Source":
    """Return a store to read from a folder or URL.

    Args:
        path: folder or URL.
        complete: raise ``IncompleteDataError`` where a chunk is missing, which zarr would take for fill values.
        follow_links: follow links within a folder that lead out of it.
        memory: bytes that may be used; by default those of ``memory_limit``.

    Raises:
        ValueError: a URL that is not understood or holds credentials, or a package is missing.
    """
    path, memory = str(path), memory or memory_limit()
    if "://" not in path and is_repository(path):
        check_tree(path, follow_links)
        return Source(repository_store(path), path, complete=False, memory=memory)
    if "://" not in path:
        return Source(FolderStore(path, follow_links), path, complete, memory=memory)
    check_url(path)
    store = web_store(path) if path.startswith("http") else CloudStore(connect(path), read_only=True)
    return Source(store, path, complete, DiskCache.of_user(), TRIES, memory=memory)


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
    """Return obstore's store of a bucket.

    Raises:
        ValueError: a URL that is not understood or holds credentials, or a package is missing.
    """
    check_url(path)
    try:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import GCSStore, S3Store
    except ImportError as error:
        raise ValueError("a URL needs one more package: pip install 'fourcaster[remote]'") from error
    scheme = urlsplit(path).scheme
    timeout = float(os.environ.get("FOURCASTER_TIMEOUT", "30"))
    options: Any = {
        "timeout": timedelta(seconds=timeout),
        "connect_timeout": timedelta(seconds=min(10.0, timeout)),
        "allow_http": True,
    }
    # Retried once here, since an error there is of the request and one below of a body that broke off.
    retries: Any = {"max_retries": 1, "retry_timeout": timedelta(seconds=2 * timeout)}
    if scheme not in _UNSIGNED:
        raise ValueError(f"{path} is no bucket; use s3:// or gs://")
    cloud: Any = {"s3": S3Store, "gs": GCSStore}[scheme]
    given: dict[str, Any] = (
        {} if _UNSIGNED[scheme] in os.environ or _signed(scheme) else {"skip_signature": True}
    )
    try:
        if scheme == "s3" and _signed("s3") and "AWS_ACCESS_KEY_ID" not in os.environ:
            given["credential_provider"] = (
                Boto3CredentialProvider()
            )  # knows profiles and roles, which obstore does not
        return cloud.from_url(path, client_options=options, retry_config=retries, **given)
    except Exception as error:  # of botocore and obstore, which have many
        raise ValueError(
            f"{path} cannot be reached with the credentials that the environment names: {' '.join(str(error).split())[:200]}"
        ) from error


def _signed(scheme: str) -> bool:
    return (
        any(name in os.environ for name in _CREDENTIALS[scheme]) or Path(_FILES[scheme]).expanduser().exists()
    )


class CloudStore(ObjectStore):  # type: ignore[misc]
    """A bucket, of whose objects no more is read than expected."""

    async def fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, most: int
    ) -> Buffer | None:
        """Return the bytes of a key, None where there is none.

        Raises:
            UntrustedDataError: there are more than ``most``.
        """
        import obstore

        if byte_range is not None:
            return await self.get(key, prototype, byte_range)
        try:
            answer = await obstore.get_async(self.store, key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        if answer.meta["size"] > most:
            raise too_long(str(self.store), key, answer.meta["size"], most)
        return prototype.buffer.from_bytes(await answer.bytes_async())


class Source(WrapperStore[Store]):  # type: ignore[misc]
    """A store to read from: failed reads are tried again with growing pauses, and a missing chunk is an
    error.

    Args:
        store: where the bytes are.
        name: named in errors.
        complete: raise where a chunk is missing.
        cache: where chunks that were read are kept.
        tries: how often a read is tried.
        memory: bytes that may be used; by default those of ``memory_limit``.

    Attributes:
        memory: bytes that may be used.
        arrays: what the metadata read so far declare, by path.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        complete: bool,
        cache: DiskCache | None = None,
        tries: int = 1,
        *,
        memory: int | None = None,
    ) -> None:
        super().__init__(store)
        self.name, self.complete, self.cache, self.tries = name, complete, cache, tries
        self.memory = memory or memory_limit()
        self.arrays: dict[str, Declared] = {}
        self._metadata: dict[str, str] = {}
        self._version = ""

    def __reduce__(self) -> tuple[Any, ...]:
        state = {"arrays": self.arrays, "_metadata": self._metadata, "_version": self._version}
        if not isinstance(self._store, FolderStore) and "://" not in self.name:
            return Source, (self._store, self.name, self.complete), state | {"memory": self.memory}
        return _restored, (self.name, self.complete, self.follow_links, self.memory), state

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)

    @property
    def folder(self) -> FolderStore | None:
        """The folder that is read from, None where it is none."""
        return self._store if isinstance(self._store, FolderStore) else None

    @property
    def follow_links(self) -> bool:
        """Whether links that lead out of the folder are followed."""
        return self.folder is not None and self.folder.follow_links

    def with_read_only(self, read_only: bool = False) -> "Source":
        """Return itself, which only reads."""
        return self

    def declared(self, key: str) -> Declared | None:
        """Return what is declared of the array that a chunk belongs to, None where its metadata were not
        read.
        """
        at = len(key)
        while at > 0:
            at = key.rfind("/", 0, at)
            if (found := self.arrays.get(key[: max(at, 0)])) is not None:
                return found
        return None

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return the bytes of a key; None where it is no chunk and there is none.

        Raises:
            IncompleteDataError: a chunk is missing.
            OSError: it cannot be read.
            UntrustedDataError: it lies outside of the store, or is larger or other than may be read.
        """
        prototype = prototype or default_buffer_prototype()
        if any(part in ("", ".", "..") for part in key.split("/")):
            raise UntrustedDataError(f"{self.name} names a chunk {key[:120]!r}, which may lie outside of it")
        if key.rpartition("/")[2] in metadata.FILES:
            return await self._get_metadata(key, prototype)
        named = f"{self.name} {self._version} {key} {byte_range}"
        if self.cache is not None and (kept := self.cache.get(named)) is not None:
            return prototype.buffer.from_bytes(kept)
        declared = self.declared(key)
        value = await self._tried(
            key, prototype, byte_range, declared.file_bytes if declared else self.memory // 4
        )
        if value is None and self.complete:
            raise IncompleteDataError(
                f"{self.name} lacks the chunk {key}, which zarr would read as fill values; "
                "fetch it again, or pass allow_missing=True if fill values are intended",
                option="allow_missing",
            )
        if value is not None and self.cache is not None:
            self.cache.put(named, value.to_bytes())
        return value

    async def _get_metadata(self, key: str, prototype: BufferPrototype) -> Buffer | None:
        value = await self._tried(key, prototype, None, METADATA_BYTES)
        if value is not None:
            data = value.to_bytes()
            arrays = await asyncio.to_thread(metadata.check, self.name, key, data, self.memory)
            self.arrays |= arrays
            # What is cached belongs to the store as its metadata describe it now.
            self._metadata[key] = hashlib.sha256(data).hexdigest()
            self._version = str(sorted(self._metadata.items()))
        return value

    async def _tried(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, most: int
    ) -> Buffer | None:
        if isinstance(byte_range, RangeByteRequest) and not 0 <= byte_range.end - byte_range.start <= most:
            raise UntrustedDataError(
                f"{self.name}: the index of {key} names bytes that are not there; fetch it again"
            )
        for attempt in range(self.tries):
            try:
                return await self._fetch(key, prototype, byte_range, most)
            except UntrustedDataError:
                raise
            except Exception as error:  # of obstore, which has many
                if any(
                    word in type(error).__name__
                    for word in ("PermissionDenied", "Unauthenticated", "NotAllowed")
                ):
                    raise OSError(
                        f"{self.name} may not be read with these credentials, or without any; check them and the name"
                    ) from None
                if attempt + 1 == self.tries:
                    if self.tries == 1:
                        raise
                    reason = type(error).__name__.removesuffix("Error").lower()
                    raise OSError(
                        f"{self.name}: {key} could not be read in {self.tries} tries ({reason}); run it again, it goes on from here"
                    ) from None
            await asyncio.sleep(0.1 * 2**attempt)
        return None

    async def _fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None, most: int
    ) -> Buffer | None:
        if isinstance(self._store, FolderStore | CloudStore | WebStore):
            return await self._store.fetch(key, prototype, byte_range, most)
        value: Buffer | None = await self._store.get(key, prototype, byte_range)
        return value

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
        return await asyncio.gather(
            *(self.get(key, prototype, part) for key, part in cast("Sequence[Any]", key_ranges))
        )


def _restored(name: str, complete: bool, follow_links: bool, memory: int) -> Source:
    return open_source(name, complete, follow_links=follow_links, memory=memory)
