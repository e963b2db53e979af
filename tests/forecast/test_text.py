"""Untrusted text is printed without terminal control sequences."""

import time

import pytest

from fourcaster.forecast.text import one_line, printable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text, ünïcode, 気温, 👩‍🔬", "plain text, ünïcode, 気温, 👩‍🔬"),
        ("a\x1b[31mred\x1b[0m", "ared"),
        ("a\x1b[2J\x1b[1;1Hb", "ab"),
        ("\x1b]0;title\x07a\x1b]8;;http://x\x1b\\b", "ab"),
        ("\x1b]52;c;aGk=\x07a\x1bPq#0\x1b\\b", "ab"),
        ("\x9b31mred\x9d0;title\x9cb", "redb"),
        ("a\x1bcb\x1b(0c\x1b", "abc"),
        ("a\x00\x07\x08\x7f\x85b", "a b"),
        ("user\u202etxt.exe\u2066\u200f", "usertxt.exe"),
        ("one\r\ntwo\rthree\tfour", "one\ntwo\nthree\tfour"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_terminal_control_sequences_are_removed(text, expected):
    assert printable(text) == expected
    printable(text).encode()


def test_one_line_text_has_bounded_length():
    assert one_line("a\nb\x1b[1m \r c") == "a b c"
    assert len(one_line("x" * 10**6, 100)) <= 100 and one_line("x" * 99 + "y").endswith("y")


def test_long_texts_are_processed_quickly():
    start = time.monotonic()
    for text in ("\x1b]" * 10**5, "\x1b[" * 10**5, "\x1b" * 10**6, "\x9d" * 10**5 + "a" * 10**6):
        printable(text)
    assert time.monotonic() - start < 5
