"""JSON of unknown origin, bounded in size, depth and number of values, and without duplicate keys."""

import json
from typing import Any

LONGEST = 20_000  # entries of one list or object
MOST = 200_000  # values in total


def parse_json(content: bytes, source: str, *, longest: int = LONGEST, most: int = MOST) -> Any:
    """Return the value of a JSON text.

    Args:
        content: UTF-8 text, whose size the caller bounds before reading it.
        source: name of the file, for errors.
        longest: largest number of entries of one list or object.
        most: largest number of values in total.

    Raises:
        ValueError: not JSON in UTF-8, nested too deeply, a duplicate key, or too many entries.
    """
    try:
        values = json.loads(content.decode(), object_pairs_hook=_without_duplicates)
    except RecursionError as error:
        raise ValueError(f"{source} is damaged (nested too deeply)") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{source} is damaged (not text in UTF-8)") from error
    except ValueError as error:
        raise ValueError(f"{source} is damaged ({error})") from error
    _check_counts(values, source, longest=longest, most=most)
    return values


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {twice[:80]!r}")
    return values


def _check_counts(values: Any, source: str, *, longest: int, most: int) -> None:
    count = 0
    waiting = [("", values)]
    while waiting:
        name, value = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        count += len(value)
        if len(value) > longest or count > most:
            where = f"{name[:80]}: " if name else ""
            raise ValueError(
                f"{source} is damaged ({where}{len(value)} entries; at most {longest} are allowed, "
                f"and {most} in total)"
            )
        named = value.items() if isinstance(value, dict) else ((name, entry) for entry in value)
        waiting += [(key, entry) for key, entry in named if isinstance(entry, dict | list)]
