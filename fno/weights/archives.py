"""Files of saved tensors, and archives of them, of unknown origin.

Sizes are compared with the size of the file before anything is unpacked. No code in a file is run:
``torch.load`` is called with ``weights_only=True``. It is called twice, first with tensors that have a shape
but no memory, so that the sizes that a small file claims are known before any of them is allocated.
"""

import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..errors import WeightsError
from .regular_file import check_memory, open_regular

_DESCRIPTION = "args.json"
_TENSORS = "model.pt"
_LARGEST_DESCRIPTION = 2**20  # bytes
_LARGEST_DIRECTORY = 16 * 2**20  # bytes of the table of contents of a zip archive
_MOST_MEMBERS = 100_000
_EXPANSION = 10  # largest ratio of unpacked to compressed size
_SMALL = 2**20  # bytes that any archive may unpack to


def load_tensors(path: Path, source: str) -> dict[str, Any]:
    """Return the state dict in a file that ``torch.save`` wrote.

    Args:
        path: file.
        source: name of the file, for errors.

    Raises:
        WeightsError: the file was not written by ``torch.save``, contains code, or describes tensors that are
            larger than the file.
    """
    size = path.stat().st_size
    stored = zipfile.is_zipfile(path)
    if stored:
        size = check_zip(path, source, compressed=False)
    with FakeTensorMode():
        _check_sizes(_load(path, source), size, source)
    check_memory(Path(source), size)
    state = _load(path, source, mmap=stored)
    for name, tensor in _tensors(state, source):
        if tensor.is_meta:
            raise WeightsError(
                f"{source}: {name[:80]} has a shape but no values; save it from a model that is on a device"
            )
    return state


def _load(path: Path, source: str, *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # the reader raises any error for a file that is not a checkpoint
        reason = " ".join(str(error).split())
        if re.search("GLOBAL|REDUCE|BUILD|WeightsUnpickler error: Unsupported (global|class)", reason):
            raise WeightsError(
                f"{source} contains more than tensors, and loading it would run code in the file; nothing "
                "was loaded. If you trust it, save its state dict alone: torch.save(model.state_dict(), ...)"
            ) from error
        raise WeightsError(f"{source} cannot be read as saved tensors: {reason[:200]}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{source} contains a {type(state).__name__}, not a state dict")
    return state


def _check_sizes(state: dict[str, Any], size: int, source: str) -> None:
    """Check that tensors, one by one and together, are no larger than what is stored."""
    total = sum(_bytes(name, tensor, size, source=source) for name, tensor in _tensors(state, source))
    if total > size:
        raise WeightsError(
            f"{source} describes {total / 1e6:.3g} MB of tensors, but contains {size / 1e6:.3g} MB"
        )


def _tensors(state: dict[str, Any], source: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors in a state dict and in the dictionaries within it, with their names."""
    waiting = list(state.items())
    seen = 0
    while waiting:
        name, value = waiting.pop()
        seen += 1
        if seen > _MOST_MEMBERS:
            raise WeightsError(f"{source} contains more than {_MOST_MEMBERS} entries")
        if isinstance(value, Tensor):
            yield str(name), value
        elif isinstance(value, dict):
            waiting += value.items()


def _bytes(name: str, tensor: Tensor, size: int, *, source: str) -> int:
    """Return the size of a tensor [bytes], after checking that all of it is stored."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise WeightsError(f"{source}: {name[:80]} is sparse or quantised, which is not supported")
    needed = tensor.numel() * tensor.element_size()
    stored = tensor.untyped_storage().nbytes()
    if needed > stored or stored > size:
        raise WeightsError(
            f"{source}: {name[:80]} describes {needed} bytes, of which {min(stored, size)} are stored"
        )
    return needed


def check_zip(path: Path, source: str, *, compressed: bool) -> int:
    """Return the unpacked size of a zip archive [bytes]; without compression, that of the file.

    Args:
        path: archive.
        source: name of the file, for errors.
        compressed: whether members may be compressed.

    Raises:
        WeightsError: damaged, too many members, or members that together are far larger than the file.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if (directory := _directory_size(file, size)) > _LARGEST_DIRECTORY:
            raise WeightsError(
                f"{source} has a table of contents of {directory} bytes, beyond {_LARGEST_DIRECTORY}"
            )
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
        except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, struct.error) as error:
            raise WeightsError(f"{source} is a damaged archive ({error})") from error
    if len({member.filename for member in members}) < len(members):
        raise WeightsError(f"{source} is an archive with two members of the same name")
    if not compressed and any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise WeightsError(
            f"{source} contains compressed tensors, which is not supported; save them with torch.save"
        )
    total = sum(member.file_size for member in members)
    if total > (_EXPANSION * size if compressed else size) + _SMALL:
        raise WeightsError(f"{source} has {size} bytes and unpacks to {total}, which is too much")
    return total if compressed else size


def _directory_size(file: BinaryIO, size: int) -> int:
    """Return the size [bytes] of the table of contents, as stated at the end of a zip archive."""
    file.seek(max(0, size - 65_557 - 76))
    end = file.read()
    file.seek(0)
    at = end.rfind(b"PK\x05\x06")
    at_64 = end.rfind(b"PK\x06\x06")
    if at < 0 or len(end) < at + 22:
        return 0
    (directory,) = struct.unpack_from("<I", end, at + 12)
    if directory == 2**32 - 1 and at_64 >= 0 and len(end) >= at_64 + 48:
        (directory,) = struct.unpack_from("<Q", end, at_64 + 40)
    return int(directory)


def unpack(path: Path, folder: Path) -> tuple[bytes, Path] | None:
    """Unpack an archive of physicsnemo.

    Args:
        path: archive.
        folder: folder to unpack the tensors into.

    Returns:
        Contents of the description and path of the tensors; None if the file is not such an archive.

    Raises:
        WeightsError: a damaged archive, two members of the same name, or members that are larger than the
            file allows.
    """
    try:
        if _is_tar(path):
            return _unpack_tar(path, folder)
        return _unpack_zip(path, folder) if zipfile.is_zipfile(path) else None
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        EOFError,
        NotImplementedError,
        RuntimeError,
        struct.error,
    ) as error:
        raise WeightsError(f"{path} is a damaged archive ({error})") from error


def _is_tar(path: Path) -> bool:
    try:
        with tarfile.open(path, "r:"):  # compressed ones are not what physicsnemo writes
            return True
    except tarfile.TarError:
        return False


def _unpack_tar(path: Path, folder: Path) -> tuple[bytes, Path] | None:
    sizes: dict[str, int] = {}
    content = b""
    with tarfile.open(path, "r:") as tar:
        for count, member in enumerate(tar):
            name = Path(member.name).name
            if count > _MOST_MEMBERS:
                raise WeightsError(f"{path} is an archive of more than {_MOST_MEMBERS} members")
            if name not in (_DESCRIPTION, _TENSORS):
                continue
            if not member.isreg() or member.issparse():
                raise WeightsError(f"{path} is an archive in which {name} is not a file")
            _add_size(sizes, name, member.size, limit=path.stat().st_size, path=path)
            file = tar.extractfile(member)
            assert file is not None
            if name == _DESCRIPTION:
                content = file.read(_LARGEST_DESCRIPTION + 1)
            else:
                _copy(file, folder / _TENSORS, member.size, path=path)
    return (content, folder / _TENSORS) if len(sizes) == 2 else None


def _unpack_zip(path: Path, folder: Path) -> tuple[bytes, Path] | None:
    total = check_zip(path, str(path), compressed=True)
    sizes: dict[str, int] = {}
    with zipfile.ZipFile(path) as archive:
        if not {_DESCRIPTION, _TENSORS} <= set(archive.namelist()):
            return None
        for name in (_DESCRIPTION, _TENSORS):
            _add_size(sizes, name, archive.getinfo(name).file_size, limit=total, path=path)
        with archive.open(_DESCRIPTION) as file:
            content = file.read(_LARGEST_DESCRIPTION + 1)
        with archive.open(_TENSORS) as tensors:
            _copy(tensors, folder / _TENSORS, sizes[_TENSORS], path=path)
    return content, folder / _TENSORS


def _add_size(sizes: dict[str, int], name: str, size: int, *, limit: int, path: Path) -> None:
    """Record the size of a member, after checking that it is the first of its name and not too large."""
    if name in sizes:
        raise WeightsError(f"{path} is an archive with two members {name}")
    if size > min(limit, _LARGEST_DESCRIPTION if name == _DESCRIPTION else limit):
        raise WeightsError(f"{path} is an archive in which {name} has {size} bytes, which is too much")
    sizes[name] = size


def _copy(file: Any, target: Path, size: int, *, path: Path) -> None:
    """Copy ``size`` bytes, and raise ``WeightsError`` if the member has more or fewer."""
    with open(target, "xb") as output:
        copied = 0
        while part := file.read(min(2**20, size + 1 - copied)):
            output.write(part)
            copied += len(part)
    if copied != size:
        raise WeightsError(
            f"{path} is a damaged archive ({_TENSORS} does not have {size} bytes as it should)"
        )
