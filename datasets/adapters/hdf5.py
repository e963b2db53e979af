"""What an HDF5 file says of itself, checked before the netCDF library reads it.

That library follows links out of the file, reads the raw bytes of any file that external storage names,
recurses into groups that contain themselves until memory ends, and aborts the process on some types. h5py
shows each of these in the file's metadata, without reading a value. External links and virtual data sets are
allowed on request, once every file that they lead to has passed the same checks. External storage never is:
it shows the bytes of whatever file it names.
"""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from xarray.backends.locks import HDF5_LOCK

from ..errors import InvalidDataError, LinkRefusedError
from ..memory import check_axis, check_bytes, check_declared, show
from .regular import check_regular
from .virtual import covered, lacks

if TYPE_CHECKING:
    import h5py

OBJECTS = 10_000  # variables, dimensions and groups; the netCDF library takes seconds for as many
_ATTRIBUTE = 2**26  # bytes of one attribute
_TEXTS = 1000  # of one attribute or axis, each of which may be as long as the file
_NAME = 256  # bytes of a name
_FILES = 10_000  # that links lead to
_DEPTH = 100  # of groups in one another
_BUILT_IN = range(1, 7)  # deflate, shuffle, fletcher32, szip, nbit, scaleoffset
_ADDED = {307: "has_bzip2_filter", 32001: "has_blosc_filter", 32015: "has_zstd_filter"}

Identity = tuple[int, int]


def check_hdf5(path: str, *, follow_links: bool = False) -> list[str]:
    """Raise unless the netCDF library can open a file within bounds and without reading other files.

    Args:
        path: HDF5 file.
        follow_links: allow external links and virtual data sets.

    Returns:
        Names of variables that the library opens as something else than they are, which are to be left out.

    Raises:
        InvalidDataError: external storage; links, where they are not followed, or that lead nowhere; groups that
            contain themselves; too many objects; unknown filters; types that the library fails on; or sizes
            beyond the limit.
        OSError: it is damaged.
    """
    with HDF5_LOCK:  # h5py and netCDF4 may share one library
        return _Check(follow_links).file(path)


class _Check:
    """One run over a file and all files that it leads to.

    Args:
        follow_links: allow external links and virtual data sets.
    """

    def __init__(self, follow_links: bool) -> None:
        self.follow_links = follow_links
        self.files: set[str] = set()
        self.path = ""
        self.objects = 0

    def file(self, path: str) -> list[str]:
        """Check one file, and those that it leads to."""
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
                self.links(file.id, "", [])
                return self.group(h5py.h5g.open(file.id, b"/"), "", [])
        finally:
            self.path = outer

    def links(self, group: "h5py.h5g.GroupID", name: str, above: list[Identity]) -> None:
        """Check all links below a group that lead out of the file; follow none of them."""
        import h5py

        above = self.descend(group, name, above)
        for key, kind in self.members(group):
            child = f"{name}/{key}" if name else key
            if kind == h5py.h5l.TYPE_EXTERNAL:
                self.external(group, key, child)
            elif (
                kind == h5py.h5l.TYPE_HARD
                and h5py.h5o.get_info(group, key.encode()).type == h5py.h5o.TYPE_GROUP
            ):
                self.links(h5py.h5g.open(group, key.encode()), child, above)
            elif kind not in (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT):
                raise self.refusal(f"{child!r} is a link of an unknown kind")

    def group(self, group: "h5py.h5g.GroupID", name: str, above: list[Identity]) -> list[str]:
        """Check a group and all below it, as the netCDF library walks them, once the links in them are known."""
        import h5py

        above = self.descend(group, name, above)
        unreadable = []
        self.attributes(group, name)
        for key, _ in self.members(group):
            child = f"{name}/{key}" if name else key
            try:
                target = h5py.h5o.open(group, key.encode())
            except KeyError as error:
                raise self.refusal(f"the link {child!r} leads nowhere") from error
            if isinstance(target, h5py.h5g.GroupID):
                self.group(target, child, above)
            elif isinstance(target, h5py.h5d.DatasetID):
                if not self.dataset(target, child) and not name:
                    unreadable.append(key)
                self.attributes(target, child)
        return unreadable

    def descend(self, group: "h5py.h5g.GroupID", name: str, above: list[Identity]) -> list[Identity]:
        import h5py

        info = h5py.h5o.get_info(group)
        identity = (info.fileno, info.addr)
        if identity in above:
            raise self.refusal(f"the group {name!r} contains itself, by a link to a group above it")
        if len(above) > _DEPTH:
            raise self.refusal(f"more than {_DEPTH} groups lie in one another")
        return [*above, identity]

    def members(self, group: "h5py.h5g.GroupID") -> Iterator[tuple[str, int]]:
        found: list[tuple[bytes, int]] = []

        def collect(key: bytes, info: Any) -> bool | None:
            found.append((key, info.type))  # h5py gives the same object for each link
            return True if len(found) > OBJECTS else None

        group.links.iterate(collect, info=True)
        self.objects += len(found)
        if self.objects > 2 * OBJECTS:  # each is met twice
            raise self.refusal(
                f"it has more than {OBJECTS} variables, dimensions and groups; keep those that you need, e.g. with ncks -v"
            )
        if long := [key for key, _ in found if len(key) > _NAME]:
            raise self.refusal(
                f"the name {long[0][:40]!r}... has {len(long[0])} bytes, and those of netCDF at most {_NAME}"
            )
        for key, kind in found:
            try:
                yield key.decode(), kind
            except UnicodeDecodeError as error:
                raise self.refusal(f"the name {key!r} is not UTF-8") from error

    def external(self, group: "h5py.h5g.GroupID", key: str, child: str) -> None:
        target = group.links.get_val(key.encode())[0].decode(errors="surrogateescape")
        if not self.follow_links:
            raise LinkRefusedError(
                f"{self.path}: {child!r} is an external link to {target!r}; "
                "pass follow_links=True if you trust its target"
            )
        self.elsewhere(target, child, "HDF5_EXT_PREFIX")

    def elsewhere(self, target: str, child: str, variable: str) -> list[str]:
        """Check the files that a name in a file may stand for, by the library's rules, and return them."""
        folder = os.path.dirname(os.path.realpath(self.path))
        prefixes = [
            part.replace("${ORIGIN}", folder)
            for part in os.environ.get(variable, "").split(os.pathsep)
            if part
        ]
        places = [target, *(os.path.join(p, os.path.basename(target)) for p in (*prefixes, folder))]
        places += [os.path.join(prefix, target) for prefix in (*prefixes, folder)]
        there = [place for place in dict.fromkeys(places) if os.path.exists(place)]
        if not there:
            raise self.refusal(f"{child!r} leads to the file {target!r}, which does not exist")
        for place in there:
            check_regular(place)
            self.file(place)
        return there

    def dataset(self, dataset: "h5py.h5d.DatasetID", name: str) -> bool:
        """Check a data set, and return whether the netCDF library opens it as what it is."""
        import h5py

        properties = dataset.get_create_plist()
        if properties.get_external_count():
            files = properties.get_external(0)[0].decode(errors="replace")
            raise self.refusal(
                f"{name!r} has external storage, so its values are the bytes of the file {files!r}; rewrite it with h5repack"
            )
        kind = dataset.get_type()
        if isinstance(kind, h5py.h5t.TypeFloatID) and kind.get_size() not in (4, 8):
            raise self.refusal(
                f"{name!r} has floating-point numbers of {8 * kind.get_size()} bits, which netCDF does not read; store 32 or 64"
            )
        shape = dataset.shape or ()
        size = kind.get_size()
        count = int(np.prod(shape, dtype=object))
        if size > _ATTRIBUTE:
            raise self.refusal(
                f"{name!r} has values of {show(size)} each, more than the {show(_ATTRIBUTE)} that are read"
            )
        if properties.get_layout() == h5py.h5d.VIRTUAL:
            self.virtual(dataset, properties, name)
        elif properties.get_layout() == h5py.h5d.CHUNKED:
            chunk = properties.get_chunk()
            what = f"{self.path}: a chunk of {name!r} ({'x'.join(map(str, chunk))} values)"
            check_bytes(what, 2 * int(np.prod(chunk, dtype=object)) * size)
            self.filters(properties, name)
        if len(shape) == 1 and h5py.h5ds.is_scale(dataset) and not _dimension_only(dataset):
            check_axis(self.path, name, count, size)
        if not (_dimension_only(dataset) or properties.get_layout() == h5py.h5d.VIRTUAL):
            stored = h5py.h5i.get_file_id(dataset).get_filesize()
            check_declared(self.path, name, count * size, stored)
        if isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() and count > _TEXTS:
            return False
        read = (
            h5py.h5t.TypeIntegerID,
            h5py.h5t.TypeFloatID,
            h5py.h5t.TypeEnumID,
            h5py.h5t.TypeStringID,
            h5py.h5t.TypeOpaqueID,
        )
        return isinstance(kind, read)

    def filters(self, properties: Any, name: str) -> None:
        for position in range(properties.get_nfilters()):
            code, _, _, title = properties.get_filter(position)
            if not _reads_filter(code):
                called = f" ({title.decode(errors='replace')})" if title else ""
                raise self.refusal(
                    f"{name!r} is compressed by the HDF5 filter {code}{called}, which is not installed; rewrite it, e.g. with nccopy -d1"
                )

    def virtual(self, dataset: "h5py.h5d.DatasetID", properties: Any, name: str) -> None:
        """Check that all parts of a virtual data set are there, since the library takes missing ones for a
        constant.
        """
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
            raise self.refusal(
                f"{name!r} is a virtual data set of more than {OBJECTS} parts; join some first"
            )
        for i in range(count):
            target = properties.get_virtual_filename(i)
            if "%" in target:
                raise self.refusal(
                    f"{name!r} is a virtual data set of files by a pattern ({target!r}); name each file"
                )
            places = [self.path] if target == "." else self.elsewhere(target, name, "HDF5_VDS_PREFIX")
            for place in places:
                with h5py.File(place, "r", locking=False) as file:
                    if lacking := lacks(file, properties, i):
                        raise self.refusal(f"{name!r} is a virtual data set, and {place} {lacking}")
        if not covered(dataset, properties):
            raise self.refusal(
                f"{name!r} is a virtual data set with values that no part gives, and no _FillValue to mark them as missing"
            )

    def attributes(self, item: Any, name: str) -> None:
        import h5py

        count = h5py.h5a.get_num_attrs(item)
        self.objects += 0 if count < 100 else 2 * (count - 100)
        if self.objects > 2 * OBJECTS:
            raise self.refusal(f"{name or '/'!r} has {count} attributes")
        for index in range(count):
            attribute = h5py.h5a.open(item, index=index)
            called = attribute.name.decode(errors="replace")
            size = attribute.get_storage_size()
            if size > _ATTRIBUTE:
                limit = show(_ATTRIBUTE)
                raise self.refusal(
                    f"the attribute {called!r} of {name or '/'!r} has {show(size)}, more than the {limit} that are read"
                )
            kind = attribute.get_type()
            long = isinstance(kind, h5py.h5t.TypeVlenID) or (
                isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str()
            )
            if long and called not in _SCALES and int(np.prod(attribute.shape, dtype=object)) > _TEXTS:
                raise self.refusal(
                    f"the attribute {called!r} of {name or '/'!r} has more than {_TEXTS} texts or lists"
                )

    def refusal(self, text: str) -> InvalidDataError:
        return InvalidDataError(f"{self.path}: {text}")


_SCALES = ("DIMENSION_LIST", "REFERENCE_LIST")


def _dimension_only(dataset: "h5py.h5d.DatasetID") -> bool:
    """Return whether a data set stands for a dimension without coordinate, and has no values."""
    import h5py

    if not (h5py.h5ds.is_scale(dataset) and h5py.h5a.exists(dataset, b"NAME")):
        return False
    attribute = h5py.h5a.open(dataset, b"NAME")
    if (
        attribute.shape != ()
        or not isinstance(attribute.get_type(), h5py.h5t.TypeStringID)
        or attribute.get_storage_size() > 1000
    ):
        return False
    text = h5py.Dataset(dataset).attrs["NAME"]
    return (text.decode(errors="replace") if isinstance(text, bytes) else str(text)).startswith(
        "This is a netCDF dimension but not"
    )


def _reads_filter(code: int) -> bool:
    """Return whether the netCDF library has a filter, or the user has a folder of filters."""
    import netCDF4

    if code in _BUILT_IN:
        return True
    own = os.path.join(os.path.dirname(netCDF4.__file__), "plugins")
    if os.environ.get("HDF5_PLUGIN_PATH", own) != own:
        return True
    if code not in _ADDED:
        return False
    with netCDF4.Dataset("none", "w", diskless=True) as empty:
        return bool(getattr(empty, _ADDED[code])())
