"""Classes named as ``module:Class``, imported only from installed packages and from trusted folders.

A name in a file is no permission to run code. A module is imported only if its file belongs to an installed
distribution, according to the metadata of the environment, or lies in a folder that the caller trusts. The
same holds for each package that contains it, since importing a module runs them too.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module, invalidate_caches
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlparse

from .errors import RegistryError, UntrustedCodeError

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_LONGEST = 200  # characters of a reference
_OWN = __name__.partition(".")[0]
_trusted: list[Path] = []  # of the whole process, since threads load data


def is_reference(name: object) -> bool:
    """Return whether a name has the form ``module:Class``.

    >>> is_reference("mypackage.nets:UNet"), is_reference("fno")
    (True, False)
    """
    return isinstance(name, str) and len(name) <= _LONGEST and _REFERENCE.fullmatch(name) is not None


@contextmanager
def trusting(*folders: str | Path) -> Iterator[None]:
    """Permit imports of modules from folders inside the context.

    The folders are searched after the installed packages, which they therefore cannot replace.

    Args:
        *folders: folders that contain modules or packages.

    Raises:
        NotADirectoryError: no such folder.
    """
    resolved = tuple(Path(folder).resolve() for folder in folders)
    for folder in resolved:
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder} is not a folder that could be trusted")
    _trusted.extend(resolved)
    sys.path.extend(map(str, resolved))
    invalidate_caches()
    try:
        yield
    finally:
        for folder in resolved:
            _trusted.remove(folder)
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(str(folder))]


def load_reference(reference: str) -> object:
    """Import and return what ``module:Class`` names.

    Args:
        reference: module and attribute, see ``is_reference``.

    Raises:
        UntrustedCodeError: the module belongs neither to an installed package nor to a trusted folder, or
            does not exist; nothing of it was run.
        RegistryError: it is not such a name, the import fails, or the module has no such attribute.
    """
    if not is_reference(reference):
        raise RegistryError(
            f"{reference[:80]!r} is not a class; write module:Class, e.g. mypackage.nets:UNet"
        )
    name, _, attribute = reference.partition(":")
    parts = name.split(".")
    try:
        for count in range(1, len(parts) + 1):
            _check_origin(".".join(parts[:count]), reference)
        module = import_module(name)
    except RegistryError:
        raise
    except Exception as error:  # a module may raise anything
        raise RegistryError(
            f"{reference}: importing {name} failed with {type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    if not hasattr(module, attribute):
        raise RegistryError(f"{reference}: {name} ({module.__file__}) has no {attribute}")
    return getattr(module, attribute)


def reference_of(kind: type) -> str:
    """Return the reference ``module:Class`` of a class.

    Raises:
        RegistryError: a class that no import can find again, such as one of a notebook or a function.
    """
    reference = f"{kind.__module__}:{kind.__qualname__}"
    if not is_reference(reference) or kind.__module__.startswith("__"):
        raise RegistryError(f"{reference[:200]} cannot be imported; define the class at the top of a module")
    return reference


def _check_origin(module: str, reference: str) -> None:
    """Raise ``UntrustedCodeError`` unless importing a module runs only permitted code.

    The packages that contain it were checked before; finding it imports them.
    """
    if module.rpartition(".")[2].startswith("__"):
        raise UntrustedCodeError(f"{reference}: {module} is a program, not a module of classes")
    try:
        spec = find_spec(module)
    except (ModuleNotFoundError, ValueError):  # within a module that is no package, or without a spec
        spec = None
    if spec is None:
        raise UntrustedCodeError(
            f"{reference}: there is no module {module} in the installed packages or a trusted folder; "
            "install its package, or trust the folder that contains it"
        )
    if spec.origin is None and spec.submodule_search_locations is not None:
        return  # a folder without code of its own
    origin = str(spec.origin)
    top = module.partition(".")[0]
    if top == _OWN or (spec.has_location and (_is_trusted(Path(origin)) or _is_installed(top, origin))):
        return
    raise UntrustedCodeError(
        f"{reference}: {module} ({origin[:200]}) belongs to no installed package and to no trusted folder, "
        "so it was not imported; install its package, or trust the folder that contains it"
    )


def _is_trusted(file: Path) -> bool:
    return any(file.resolve().is_relative_to(folder) for folder in _trusted)


def _is_installed(top: str, origin: str) -> bool:
    file = Path(origin).resolve()
    return any(file.is_relative_to(root) for root in _roots(top, tuple(sys.path)))


@lru_cache(maxsize=64)
def _roots(top: str, path: tuple[str, ...]) -> list[Path]:
    """Return the files and folders that the installed distributions with a top-level module consist of.

    Args:
        top: name of the top-level module.
        path: search path of modules, for the cache.
    """
    roots = []
    for distribution in distributions():
        declared = (distribution.read_text("top_level.txt") or "").split()
        editable = _editable_root(distribution)
        if editable is not None and (not declared or top in declared):
            roots.append(editable)
        record = distribution.read_text("RECORD") or ""
        names = set(
            re.findall(rf"^({re.escape(top)}(?=/)|{re.escape(top)}\.[^/,\n]+(?=,))", record, re.MULTILINE)
        )
        if not record and top in declared:
            names = {top, f"{top}.py"}
        roots += [Path(str(distribution.locate_file(name))).resolve() for name in names]
    return roots


def _editable_root(distribution: Distribution) -> Path | None:
    """Return the folder of a distribution that was installed in editable mode; None for others."""
    text = distribution.read_text("direct_url.json")
    if not text:
        return None
    try:
        described = json.loads(text)
        if not described.get("dir_info", {}).get("editable"):
            return None
        return Path(unquote(urlparse(described["url"]).path)).resolve()
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
