"""Errors about data name the argument that would help, through causes and across processes."""

import pickle

import pytest

from fourcaster.datasets.errors import DataError, InvalidDataError, LinkRefusedError, MemoryLimitError
from fourcaster.forecast.cli.failures import explain, option_hint


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (LinkRefusedError("a link"), " (--follow-links)"),
        (MemoryLimitError("a chunk"), " (--memory)"),
        (DataError("an axis", option="select", example="depth=0.5"), " (--select depth=0.5)"),
        (InvalidDataError("no grid"), ""),
        (ValueError("another"), ""),
    ],
)
def test_the_command_adds_the_flag_of_the_argument(error, hint):
    assert option_hint(error) == hint
    assert explain(error) == (f"{error}{hint}", 2)
    restored = pickle.loads(pickle.dumps(error))  # as errors return from a worker process
    assert option_hint(restored) == hint and str(restored) == str(error)


def test_the_hint_is_taken_from_the_cause_of_an_error():
    with pytest.raises(ValueError, match="a file") as caught:
        try:
            raise LinkRefusedError("a link")
        except ValueError as error:
            raise ValueError("a file") from error
    assert option_hint(caught.value) == " (--follow-links)"
