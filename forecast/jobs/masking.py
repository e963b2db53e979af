"""Secrets of the environment, which no text that leaves the service shows."""

import json
import math
import os
import re
from contextlib import suppress
from typing import Any
from urllib.parse import quote, unquote

from ..text import printable

_SECRET = re.compile(
    r"SECRET|TOKEN|PASSW|PASSPHRASE|PASSCODE|PASS(?![A-Z])|CREDENTIAL|KEYS?(?![A-Z])|PWD(?![A-Z])"
    r"|AUTH(?![A-Z])|AUTHORIZATION|CONNECTION_?STRING|JWT|(?<![A-Z])(?:PEM|PIN)(?![A-Z])",
    re.IGNORECASE,
)
_PLAIN = ("PWD", "OLDPWD", "SSH_AUTH_SOCK")  # folders and a socket
_SWITCHES = ("0", "1", "true", "false", "yes", "no", "on", "off", "none", "null")  # values that hide nothing
_SHORTEST = 6
"""A shorter value is masked where it stands as a word of its own: elsewhere it would mask half of the text.
"""
_IN_URL = re.compile(r"://[^\s:/@]*:([^\s@]+)@")
_IN_DSN = re.compile(r"(?:password|passwd|pwd)\s*=\s*('[^']*'|\"[^\"]*\"|[^\s;'\"]+)", re.IGNORECASE)
_USER = (
    re.compile(r"(://)[^\s/\"'<>]{0,4000}@"),
    re.compile(r"(://)[^\s:/@\"'<>]{1,400}:[^\s@\"'<>]{0,4000}@"),  # a password with a slash in it
)
_DEEPEST = 20
_MOST = 10_000  # entries of a list or dictionary
HIDDEN = "***"


def mask(text: str) -> str:
    """Return a text without the values of the environment's secret variables, and without users and passwords
    of URLs.

    A value of several lines is masked as a whole and line by line; one of fewer than six characters only
    where it stands as a word of its own, and not where it is a switch such as ``1`` or ``true``.
    """
    long, short = _values()
    for value in sorted(long, key=len, reverse=True):  # one may begin as another does
        text = text.replace(value, HIDDEN)
    for value in sorted(short, key=len, reverse=True):
        if value in text:
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", HIDDEN, text)
    if "://" in text:
        for pattern in _USER:
            text = pattern.sub(rf"\1{HIDDEN}@", text)
    return text


def _values() -> tuple[set[str], set[str]]:
    """Return what is masked anywhere, and what is masked as a word of its own."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET.search(name) and name not in _PLAIN:
            found |= _forms(value)
        if "://" in value:
            for password in _IN_URL.findall(value):
                found |= _forms(password) | _forms(unquote(password))
        if "=" in value:
            for password in _IN_DSN.findall(value):
                found |= _forms(password.strip("'\""))
    found = {value for value in found if value.lower() not in _SWITCHES and value != HIDDEN}
    return {value for value in found if len(value) >= _SHORTEST}, {
        value for value in found if 0 < len(value) < _SHORTEST
    }


def _forms(value: str) -> set[str]:
    """Return what a value looks like in texts: as it is, on one line, quoted for URLs or in JSON; its long
    lines; secrets of a JSON value.
    """
    whole = value.strip()
    if not whole:
        return set()
    forms = {value, whole, " ".join(whole.split()), printable(whole)}
    forms |= {quote(whole, safe="", errors="replace"), json.dumps(whole)[1:-1], repr(whole)[1:-1]}
    lines = whole.splitlines()
    if len(lines) > 1:
        forms |= {
            line.strip() for line in lines if len(line.strip()) >= _SHORTEST and not line.startswith("-----")
        }
    if whole.startswith("{"):
        with suppress(ValueError, RecursionError):
            forms |= {form for secret in _secrets_in(json.loads(whole)) for form in _forms(secret)}
    return forms


def _secrets_in(value: Any, name: str = "") -> list[str]:
    if isinstance(value, dict):
        return [secret for key, inner in value.items() for secret in _secrets_in(inner, key)]
    return [value] if isinstance(value, str) and _SECRET.search(name) and not value.startswith("{") else []


def clean(value: Any, most: int = 20_000, deep: int = 0) -> Any:
    """Return a value of JSON, each text in it printable, without secrets and of at most ``most`` characters.

    Numbers that JSON lacks become texts; what is nested too deeply, and entries beyond the first 10,000, are
    left out.
    """
    if isinstance(value, bool | int | None):
        return (
            value
            if value is None or abs(value) < 2**63
            else str(value)[:most]
            if abs(value) < 2**4096
            else "..."
        )
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict | list | tuple):
        if deep >= _DEEPEST:
            return "..."
        if isinstance(value, dict):
            items = list(value.items())[:_MOST]
            return {clean(str(key), 200): clean(inner, most, deep + 1) for key, inner in items}
        return [clean(inner, most, deep + 1) for inner in value[:_MOST]]
    text = mask(printable(str(value)))
    return text if len(text) <= most else f"{text[:most]} ... ({len(text) - most} more characters)"
