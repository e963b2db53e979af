"""Conversion of untrusted text for terminals and logs."""

import re

_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor movements
    # titles, links, clipboard
    r"|(?:\x1b[\]P_^X]|[\x9d\x90\x9f\x9e\x98])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"  # other escape sequences
)
_CONTROLS: dict[int, str | None] = {
    code: None
    for code in (
        *range(0x20),
        *range(0x7F, 0xA0),
        0x061C,  # bidirectional controls
        0x200E,
        0x200F,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x2070),
        *range(0xFFF9, 0xFFFC),  # interlinear annotations
        *range(0xE0000, 0xE0080),  # invisible tags
    )
}
_CONTROLS |= {0x2028: " ", 0x2029: " ", 0x0B: " ", 0x0C: " ", 0x85: " "}
_CONTROLS |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")  # lone surrogates, which cannot be encoded
del _CONTROLS[0x09], _CONTROLS[0x0A]


def printable(text: str) -> str:
    """Return a text without terminal control sequences, control characters and bidirectional controls.

    Tabs and line breaks stay; a carriage return becomes a line break.
    """
    if text.isascii() and text.isprintable():
        return text
    return _SEQUENCES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROLS)


def one_line(text: str, most: int = 2000) -> str:
    """Return a text as one printable line of at most ``most`` characters; a longer one loses its middle."""
    if len(text) > 100 * most:
        text = f"{text[: 50 * most]} ... {text[-50 * most :]}"
    line = " ".join(printable(text).split())
    half = most // 2 - 3
    return line if len(line) <= most else f"{line[:half]} ... {line[-half:]}"
