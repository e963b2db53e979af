"""Memory of the machine, and the checks against it."""

import os

import numpy as np
import pytest

from fourcaster.fno import memory
from fourcaster.fno.transforms import legendre
from fourcaster.fno.weights import regular_file


def test_the_memory_of_the_machine_is_that_of_its_pages():
    assert memory.machine_memory() == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def unknown(name):
    raise ValueError(f"unrecognized configuration name {name}")


def undefined(name):
    return -1 if name == "SC_PHYS_PAGES" else 4096


@pytest.mark.parametrize("sysconf", [None, unknown, undefined])
def test_64_gib_are_assumed_where_the_system_reports_no_memory(monkeypatch, sysconf):
    if sysconf is None:
        monkeypatch.delattr(os, "sysconf")
    else:
        monkeypatch.setattr(os, "sysconf", sysconf)
    assert memory.machine_memory() == 2**36


def test_tables_and_weights_are_compared_with_the_same_memory(monkeypatch, tmp_path):
    for module in (legendre, regular_file):
        monkeypatch.setattr(module, "machine_memory", lambda: 1000)
    legendre.legendre(5, 5, np.linspace(0, np.pi, 5))
    regular_file.check_memory(tmp_path, 1000)
    with pytest.raises(ValueError, match="5 degrees, 5 orders and 6 latitudes"):
        legendre.legendre(5, 5, np.linspace(0, np.pi, 6))
    with pytest.raises(ValueError, match="more than the memory of this machine"):
        regular_file.check_memory(tmp_path, 1001)
