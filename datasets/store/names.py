"""Names of variables, which become folders of a store."""

import unicodedata

DIMENSIONS = ("time", "number", "level", "latitude", "longitude", "y", "x")
GROUPS = ("statistics", "climatology")
_METADATA = ("zarr.json",)
_LONGEST = 200  # bytes; most file systems allow 255


def fault(name: str) -> str:
    """Return why a name cannot be that of a variable; empty if it can.

    Args:
        name: name of a variable.
    """
    if not name.strip():
        return "is empty"
    if name.startswith(".") or "/" in name or "\\" in name:
        return "is no name: it could leave the store's folder"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in name):
        return "is no name: it has control characters"
    if len(name.encode(errors="surrogatepass")) > _LONGEST:
        return f"is no name: it is longer than {_LONGEST} bytes"
    return ""


def reserved(name: str) -> bool:
    """Return whether a store uses a name for something else, also if the file system ignores case."""
    return name in DIMENSIONS or name.casefold() in (*GROUPS, *_METADATA)
