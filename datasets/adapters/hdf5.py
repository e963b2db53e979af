"""Validation of the metadata of an HDF5 file before the netCDF library opens it.

The netCDF library follows links out of the file, reads the raw bytes of any file that external storage names,
recurses into groups that contain themselves until memory is exhausted, and aborts the process on some types.
h5py exposes all of these in the metadata, without reading a value. External links and virtual data sets are
allowed on request, if every file that they refer to passes the same checks. External storage is never
allowed, since it exposes the bytes of whatever file it names.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends.locks import HDF5_LOCK

from ..errors import InvalidDataError, LinkRefusedError
from ..memory import check_axis, check_bytes, check_declared, format_bytes
from .netcdf_support import has_filter, is_dimension_only
from .regular import check_regular
from .virtual import covers_data_set, missing_source

if TYPE_CHECKING:
    import h5py

OBJECTS = 10_000  # variables, dimensions and groups; the netCDF library takes seconds for that many
_ATTRIBUTE = 2**26  # bytes of one attribute
_STRINGS = 1000  # of one attribute or axis, each of which may be as long as the file
_NAME = 256  # bytes of a name
_FILES = 10_000  # linked files
_DEPTH = 100  # of nested groups

Identity = tuple[int, int]
"""Number of a file and address of an object in it."""


def check_hdf5(path: str, *, follow_links: bool = False) -> list[str]:
    """Raise unless the netCDF library can open a file within limits and without reading other files.

    Args:
        path: HDF5 file.
        follow_links: whether to allow external links and virtual data sets.

    Returns:
        Names of variables of types that the library does not read correctly, which must be dropped.

    Raises:
        LinkRefusedError: the file has external links or virtual data sets, and ``follow_links`` is false.
        InvalidDataError: external storage, dangling links, groups that contain themselves, too many objects,
            unknown filters, or types that the library fails on.
        MemoryLimitError: the metadata declare sizes beyond the memory limit.
        OSError: the file is damaged.
    """
    with HDF5_LOCK:  # h5py and netCDF4 may share one library
        return _FileChecker(follow_links).check_file(path)


class _FileChecker:
    """Checker of a file and of all files that it refers to.

    Args:
        follow_links: whether to allow external links and virtual data sets.
    """

    def __init__(self, follow_links: bool) -> None:
        self.follow_links = follow_links
        self.files: set[str] = set()
        self.path = ""
        self.objects = 0

    def check_file(self, path: str) -> list[str]:
        """Check a file and the files that it refers to, and return its unreadable variables.

        Errors are those of ``check_hdf5``, also for the other methods.
        """
        import h5py

        real = os.path.realpath(path)
        if real in self.files:
            return []
        self.files.add(real)
        if len(self.files) > _FILES:
            raise InvalidDataError(f"{path}: links lead to more than {_FILES} files; join them first")
        outer = self.path
        self.path = path
        try:
            with h5py.File(path, "r", locking=False) as file:
                self.check_links(file.id, "", [])
                return self.check_group(h5py.h5g.open(file.id, b"/"), "", [])
        finally:
            self.path = outer

    def check_links(self, group: "h5py.h5g.GroupID", name: str, parents: list[Identity]) -> None:
        """Check all links below a group that lead out of the file, without following them.

        Args:
            group: open group.
            name: path of the group in the file, empty for the root.
            parents: identities of the groups above it.
        """
        import h5py

        parents = self.descend(group, name, parents)
        for key, kind in self.members(group):
            child = f"{name}/{key}" if name else key
            if kind == h5py.h5l.TYPE_EXTERNAL:
                self.check_external_link(group, key, child)
            elif (
                kind == h5py.h5l.TYPE_HARD
                and h5py.h5o.get_info(group, key.encode()).type == h5py.h5o.TYPE_GROUP
            ):
                self.check_links(h5py.h5g.open(group, key.encode()), child, parents)
            elif kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
                raise self.error(f"{child!r} is a link of an unknown kind")

    def check_group(self, group: "h5py.h5g.GroupID", name: str, parents: list[Identity]) -> list[str]:
        """Check a group and its descendants, as the netCDF library walks them, after their links.

        Arguments are those of ``check_links``. Returns the unreadable variables of the root group.
        """
        import h5py

        parents = self.descend(group, name, parents)
        unreadable = []
        self.check_attributes(group, name)
        for key, _ in self.members(group):
            child = f"{name}/{key}" if name else key
            try:
                target = h5py.h5o.open(group, key.encode())
            except KeyError as error:
                raise self.error(f"the link {child!r} has no target") from error
            if isinstance(target, h5py.h5g.GroupID):
                self.check_group(target, child, parents)
            elif isinstance(target, h5py.h5d.DatasetID):
                if not self.check_data_set(target, child) and not name:
                    unreadable.append(key)
                self.check_attributes(target, child)
        return unreadable

    def descend(self, group: "h5py.h5g.GroupID", name: str, parents: list[Identity]) -> list[Identity]:
        """Return the identities of the parents and of a group, which must not be one of its own parents.

        Arguments are those of ``check_links``.
        """
        import h5py

        info = h5py.h5o.get_info(group)
        identity = (info.fileno, info.addr)
        if identity in parents:
            raise self.error(f"the group {name!r} contains itself, by a link to one of its parents")
        if len(parents) > _DEPTH:
            raise self.error(f"more than {_DEPTH} groups are nested")
        return [*parents, identity]

    def members(self, group: "h5py.h5g.GroupID") -> Iterator[tuple[str, int]]:
        """Yield name and kind of the links in a group."""
        members: list[tuple[bytes, int]] = []

        def collect(key: bytes, info: Any) -> bool | None:
            members.append((key, info.type))  # h5py reuses ``info`` for all links
            return True if len(members) > OBJECTS else None

        group.links.iterate(collect, info=True)
        self.objects += len(members)
        if self.objects > 2 * OBJECTS:  # each is visited twice
            raise self.error(
                f"it has more than {OBJECTS} variables, dimensions and groups; "
                "extract those that you need, e.g. with ncks -v"
            )
        if long := [key for key, _ in members if len(key) > _NAME]:
            raise self.error(
                f"the name {long[0][:40]!r}... has {len(long[0])} bytes, but netCDF allows at most {_NAME}"
            )
        for key, kind in members:
            try:
                yield key.decode(), kind
            except UnicodeDecodeError as error:
                raise self.error(f"the name {key!r} is not UTF-8") from error

    def check_external_link(self, group: "h5py.h5g.GroupID", key: str, child: str) -> None:
        """Check the target of an external link, or raise an error if links are not followed.

        Args:
            group: group that contains the link.
            key: name of the link in the group.
            child: path of the link in the file.
        """
        target = group.links.get_val(key.encode())[0].decode(errors="surrogateescape")
        if not self.follow_links:
            raise LinkRefusedError(
                f"{self.path}: {child!r} is an external link to {target!r}; "
                "pass follow_links=True if you trust its target"
            )
        self.check_target(target, child, "HDF5_EXT_PREFIX")

    def check_target(self, target: str, child: str, variable: str) -> list[str]:
        """Check all files that a file name may refer to by the search rules of HDF5, and return their paths.

        Args:
            target: file name of a link.
            child: object with the link, for error messages.
            variable: environment variable with the prefixes that HDF5 searches.
        """
        folder = os.path.dirname(os.path.realpath(self.path))
        prefixes = [
            part.replace("${ORIGIN}", folder)
            for part in os.environ.get(variable, "").split(os.pathsep)
            if part
        ]
        candidates = [target, *(os.path.join(p, os.path.basename(target)) for p in (*prefixes, folder))]
        candidates += [os.path.join(prefix, target) for prefix in (*prefixes, folder)]
        paths = [path for path in dict.fromkeys(candidates) if os.path.exists(path)]
        if not paths:
            raise self.error(f"{child!r} refers to the file {target!r}, which does not exist")
        for path in paths:
            check_regular(path)
            self.check_file(path)
        return paths

    def check_data_set(self, dataset: "h5py.h5d.DatasetID", name: str) -> bool:
        """Check a data set, and return whether the netCDF library reads its type correctly."""
        import h5py

        properties = dataset.get_create_plist()
        if properties.get_external_count():
            files = properties.get_external(0)[0].decode(errors="replace")
            raise self.error(
                f"{name!r} has external storage: its values are the bytes of the file {files!r}; "
                "rewrite it with h5repack"
            )
        kind = dataset.get_type()
        if isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() not in (4, 8):
            raise self.error(
                f"{name!r} has floating-point numbers of {8 * kind.get_size()} bits, "
                "which netCDF does not read; store 32 or 64 bits"
            )
        shape = dataset.shape or ()
        size = kind.get_size()
        count = int(np.prod(shape, dtype=object))
        if size > _ATTRIBUTE:
            raise self.error(
                f"{name!r} has values of {format_bytes(size)} each, more than the limit of "
                f"{format_bytes(_ATTRIBUTE)}"
            )
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            self.check_virtual(dataset, properties, name)
        elif properties.get_layout() == h5py.h5d.CHUNKED:
            chunk = properties.get_chunk()
            what = f"{self.path}: a chunk of {name!r} ({'x'.join(map(str, chunk))} values)"
            check_bytes(what, 2 * int(np.prod(chunk, dtype=object)) * size)
            self.check_filters(properties, name)
        if len(shape) == 1 and h5py.h5ds.is_scale(dataset) and not is_dimension_only(dataset):
            check_axis(self.path, name, count, itemsize=size)
        if not (is_dimension_only(dataset) or properties.get_layout() == h5py.h5d.VIRTUAL):
            stored = h5py.h5i.get_file_id(dataset).get_filesize()
            check_declared(self.path, name, count * size, stored=stored)
        if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() and count > _STRINGS:
            return False
        readable = (
            h5py.h5t.TypeIntegerID,
            h5py.h5t.TypeFloatID,
            h5py.h5t.TypeEnumID,
            h5py.h5t.TypeStringID,
            h5py.h5t.TypeOpaqueID,
        )
        return isinstance(kind, readable)

    def check_filters(self, properties: Any, name: str) -> None:
        """Check that the filters of a data set are available."""
        for position in range(properties.get_nfilters()):
            code, _, _, title = properties.get_filter(position)
            if not has_filter(code):
                called = f" ({title.decode(errors='replace')})" if title else ""
                raise self.error(
                    f"{name!r} is compressed by the HDF5 filter {code}{called}, which is not installed; "
                    "rewrite it, e.g. with nccopy -d1"
                )

    def check_virtual(self, dataset: "h5py.h5d.DatasetID", properties: Any, name: str) -> None:
        """Check that the sources of a virtual data set exist: HDF5 reads missing ones as fill values."""
        import h5py

        count = properties.get_virtual_count()
        sources = [properties.get_virtual_filename(i) for i in range(min(count, 1))]
        if not self.follow_links:
            where = f" ({sources[0]!r} ...)" if sources else ""
            raise LinkRefusedError(
                f"{self.path}: {name!r} is a virtual data set of other files{where}; "
                "pass follow_links=True if you trust them"
            )
        if count > OBJECTS:
            raise self.error(
                f"{name!r} is a virtual data set of more than {OBJECTS} sources; join some of them first"
            )
        for i in range(count):
            target = properties.get_virtual_filename(i)
            if "%" in target:
                raise self.error(
                    f"{name!r} is a virtual data set with a pattern of files ({target!r}); name each file"
                )
            paths = [self.path] if target == "." else self.check_target(target, name, "HDF5_VDS_PREFIX")
            for path in paths:
                with h5py.File(path, "r", locking=False) as file:
                    if reason := missing_source(file, properties, i):
                        raise self.error(f"{name!r} is a virtual data set, and {path} {reason}")
        if not covers_data_set(dataset, properties):
            raise self.error(
                f"{name!r} is a virtual data set with values that no source provides, "
                "and without a _FillValue to mark them as missing"
            )

    def check_attributes(self, item: Any, name: str) -> None:
        """Check the number and the sizes of the attributes of a group or data set."""
        import h5py

        count = h5py.h5a.get_num_attrs(item)
        self.objects += 0 if count < 100 else 2 * (count - 100)
        if self.objects > 2 * OBJECTS:
            raise self.error(f"{name or '/'!r} has {count} attributes")
        for index in range(count):
            attribute = h5py.h5a.open(item, index=index)
            called = attribute.name.decode(errors="replace")
            size = attribute.get_storage_size()
            if size > _ATTRIBUTE:
                limit = format_bytes(_ATTRIBUTE)
                raise self.error(
                    f"the attribute {called!r} of {name or '/'!r} has {format_bytes(size)}, "
                    f"more than the limit of {limit}"
                )
            kind = attribute.get_type()
            long = isinstance(kind, h5py.h5t.TypeVlenID) or (
                isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
            )
            if long and called not in _SCALES and int(np.prod(attribute.shape, dtype=object)) > _STRINGS:
                raise self.error(
                    f"the attribute {called!r} of {name or '/'!r} has more than {_STRINGS} strings or lists"
                )

    def error(self, text: str) -> InvalidDataError:
        """Return an error that names the file being checked."""
        return InvalidDataError(f"{self.path}: {text}")


_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")
