"""Sizes in messages, and limits on memory."""

import pytest

from fourcaster.datasets.adapters.untrusted import limit_advice
from fourcaster.datasets.memory import format_bytes


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1000, "1000 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (1010 * 2**20, "1010 MiB"),
        (2**31, "2 GiB"),
        (3 * 2**40, "3 TiB"),
        (2**50, "1 PiB"),
    ],
)
def test_sizes_have_binary_units(size, text):
    assert format_bytes(size) == text
    assert limit_advice(size).startswith(f"more than a limit of {text} of memory")
