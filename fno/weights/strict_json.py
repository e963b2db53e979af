"""JSON of unknown origin: bounded in size, depth and number of values, and without keys that are given twice."""

import json
from typing import Any

LONGEST = 20_000  # entries of one list or object
MOST = 200_000  # values altogether


def parse_json(content: bytes, source: str, *, longest: int = LONGEST, most: int = MOST) -> Any:
    """Return what JSON text holds.

    Args:
        content: UTF-8 text; its size is for the caller to bound before it is read.
        source: named in errors.
        longest: most entries of one list or object.
        most: most values altogether.

    Raises:
        ValueError: not JSON in UTF-8, nested too deeply, a key given twice, or too many entries.
    """
    try:
        values = json.loads(content.decode(), object_pairs_hook=_once)
    except RecursionError as error:
        raise ValueError(f"{source} is damaged (nested too deeply)") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is damaged (not text in UTF-8)") from error
    except ValueError as error:
        raise ValueError(f"{source} is damaged ({error})") from error
    _refuse_large(values, source, longest, most)
    return values


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice[:80]!r} is given twice")
    return values


def _refuse_large(values: Any, source: str, longest: int, most: int) -> None:
    count, waiting = 0, [("", values)]
    while waiting:
        name, value = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        count += len(value)
        if len(value) > longest or count > most:
            where = f"{name[:80]}: " if name else ""
            raise ValueError(
                f"{source} is damaged ({where}{len(value)} entries, of which there may be {longest}, and {most} altogether)"
            )
        named = value.items() if isinstance(value, dict) else ((name, entry) for entry in value)
        waiting += [(key, entry) for key, entry in named if isinstance(entry, dict | list)]
