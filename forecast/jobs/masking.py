"""Masking of the environment's secrets in all text that leaves the service."""

import json
import math
import os
import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from ..text import printable

_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|PASSCODE|PASS(?![A-Z])|CREDENTIAL|KEYS?(?![A-Z])|PWD(?![A-Z])"
    r"|AUTH(?![A-Z])|AUTHORIZATION|CONNECTION_?STRING|JWT|(?<![A-Z])(?:PEM|PIN)(?![A-Z])",
    re.IGNORECASE,
)
_PLAIN_NAMES = ("PWD", "OLDPWD", "SSH_AUTH_SOCK")  # folders and a socket
_SWITCHES = ("0", "1", "true", "false", "yes", "no", "on", "off", "none", "null")
_SHORTEST = 6
"""Fewest characters of a value that is masked within words too; shorter ones would mask half of the text."""
_URL_PASSWORD = re.compile(r"://[^\s:/@]*:([^\s@]+)@")
_DSN_PASSWORD = re.compile(r"(?:password|passwd|pwd)\s*=\s*('[^']*'|\"[^\"]*\"|[^\s;'\"]+)", re.IGNORECASE)
_URL_USER = (
    re.compile(r"(://)[^\s/\"'<>]{0,4000}@"),
    re.compile(r"(://)[^\s:/@\"'<>]{1,400}:[^\s@\"'<>]{0,4000}@"),  # a password with a slash in it
)
_DEEPEST = 20
_MOST_ENTRIES = 10_000
_LARGEST_INTEGER = 2**63  # that JSON readers accept
_LARGEST_WRITTEN = 2**4096  # integer that is written as a text
MASK = "***"


def mask(text: str) -> str:
    """Return a text without values of secret environment variables and without user names in URLs.

    A value of several lines is masked as a whole and line by line. One of fewer than six characters is masked
    only as a separate word, and not where it is a switch such as ``1`` or ``true``.
    """
    spans: list[tuple[int, int]] = []
    for value in _secrets():
        if value in text:
            literal = re.escape(value)
            expression = literal if len(value) >= _SHORTEST else rf"(?<!\w){literal}(?!\w)"
            spans += [match.span() for match in re.finditer(expression, text)]
    text = _replace(text, spans)
    if "://" in text:
        for pattern in _URL_USER:
            text = pattern.sub(rf"\1{MASK}@", text)
    return text


def _replace(text: str, spans: list[tuple[int, int]]) -> str:
    """Return a text with ``MASK`` in place of each union of overlapping spans."""
    parts = []
    end = 0
    for start, stop in sorted(spans):
        if start >= end:
            parts += [text[end:start], MASK]
        end = max(end, stop)
    return "".join([*parts, text[end:]])


def _secrets() -> set[str]:
    """Return the texts to mask."""
    secrets: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and name not in _PLAIN_NAMES:
            secrets |= _forms(value)
        if "://" in value:
            for password in _URL_PASSWORD.findall(value):
                secrets |= _forms(password) | _forms(unquote(password))
        if "=" in value:
            for password in _DSN_PASSWORD.findall(value):
                secrets |= _forms(password.strip("'\""))
    return {value for value in secrets if value and value.lower() not in _SWITCHES and value != MASK}


def _forms(value: str) -> set[str]:
    """Return the forms in which a secret may appear in a text.

    These are the value itself, on one line, and quoted for URLs, JSON and Python; its long lines; and the
    secrets in a JSON value.
    """
    stripped = value.strip()
    if not stripped:
        return set()
    forms = {value, stripped, " ".join(stripped.split()), printable(stripped)}
    forms |= {quote(stripped, safe="", errors="replace"), json.dumps(stripped)[1:-1], repr(stripped)[1:-1]}
    lines = [line.strip() for line in stripped.splitlines()]
    if len(lines) > 1:
        forms |= {line for line in lines if len(line) >= _SHORTEST and not line.startswith("-----")}
    if stripped.startswith("{"):
        with suppress(ValueError, RecursionError):
            for secret in _secrets_in_json(json.loads(stripped)):
                forms |= _forms(secret)
    return forms


def _secrets_in_json(value: Any, name: str = "") -> list[str]:
    """Return the texts in nested JSON objects whose keys are names of secrets."""
    if isinstance(value, dict):
        return [secret for key, inner in value.items() for secret in _secrets_in_json(inner, key)]
    is_secret = isinstance(value, str) and _SECRET_NAME.search(name) and not value.startswith("{")
    return [value] if is_secret else []


def clean(value: Any, limit: int = 20_000, depth: int = 0) -> Any:
    """Return a JSON value whose texts are printable, without secrets, and of bounded length.

    Numbers that JSON lacks become texts; values that are nested too deeply, and entries beyond the first
    10,000, are left out.

    Args:
        value: value of JSON, or anything with a text form.
        limit: largest number of characters of a text.
        depth: depth of nesting of the value.
    """
    if isinstance(value, bool | int | None):
        return _clean_integer(value, limit)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict | list | tuple):
        if depth >= _DEEPEST:
            return "..."
        if isinstance(value, dict):
            items = list(value.items())[:_MOST_ENTRIES]
            return {clean(str(key), 200): clean(inner, limit, depth + 1) for key, inner in items}
        return [clean(inner, limit, depth + 1) for inner in value[:_MOST_ENTRIES]]
    text = mask(printable(str(value)))
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text) - limit} more characters)"


def _clean_integer(value: int | None, limit: int) -> int | str | None:
    if value is None or abs(value) < _LARGEST_INTEGER:
        return value
    return str(value)[:limit] if abs(value) < _LARGEST_WRITTEN else "..."
