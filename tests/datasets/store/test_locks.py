"""Output locks: one writer per output; other writers are refused, and released locks leave no files."""

import fcntl
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

from fourcaster.datasets.store.locks import OutputLockedError, exclusive

HOLDER_SCRIPT = """
import sys, time
from pathlib import Path
from fourcaster.datasets.store.locks import exclusive
with exclusive(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Return a process that holds the lock of ``tmp_path / 'a.zarr'``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER_SCRIPT, tmp_path / "a.zarr"], stdout=subprocess.PIPE
    )
    process.stdout.readline()
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_naming_host_and_process_until_the_first_is_killed(tmp_path, holder):
    with pytest.raises(OutputLockedError) as refused, exclusive(tmp_path / "a.zarr"):
        pass
    assert f"process {holder.pid} on {socket.gethostname()}" in str(refused.value)
    with exclusive(tmp_path / "b.zarr"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with exclusive(tmp_path / "a.zarr"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_aliases_of_a_path_share_one_lock(tmp_path, holder, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (
        tmp_path / "link" / "a.zarr",
        type(tmp_path)("a.zarr"),
        tmp_path / "link" / ".." / tmp_path.name / "a.zarr",
    ):
        with pytest.raises(OutputLockedError), exclusive(name):
            pass


def test_locks_are_reentrant_within_a_thread_and_exclude_other_threads(tmp_path):
    refused = []

    def other():
        try:
            with exclusive(tmp_path / "a"):
                pass
        except OutputLockedError as error:
            refused.append(str(error))

    with exclusive(tmp_path / "a"):
        with exclusive(tmp_path / "a"):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(refused) == 1 and "another thread" in refused[0]
    other()
    assert len(refused) == 1


def increment_counter(path, barrier, results):
    barrier.wait()
    for _ in range(200):
        try:
            with exclusive(path):
                number = int(path.read_text())
                path.write_text(str(number + 1))
                results.put(number)
        except OutputLockedError:
            pass


def test_locks_are_mutually_exclusive_among_processes(tmp_path):
    path = tmp_path / "counter"
    path.write_text("0")
    context = multiprocessing.get_context("forkserver")
    barrier, results = context.Barrier(4), context.Queue()
    processes = [context.Process(target=increment_counter, args=(path, barrier, results)) for _ in range(4)]
    for process in processes:
        process.start()
    entered = []
    while any(process.is_alive() for process in processes) or not results.empty():
        while not results.empty():
            entered.append(results.get())
        for process in processes:
            process.join(0.05)
    assert all(process.exitcode == 0 for process in processes)
    assert sorted(entered) == list(range(len(entered))) and int(path.read_text()) == len(entered) > 0


def test_a_file_system_without_locks_is_an_error_unless_overridden(tmp_path, monkeypatch):
    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(OSError, match=r"has no locks .* FOURCASTER_NO_LOCKS=1"), exclusive(tmp_path / "a"):
        pass
    monkeypatch.setenv("FOURCASTER_NO_LOCKS", "1")
    with exclusive(tmp_path / "a"):
        pass


def test_a_symbolic_link_in_place_of_the_lock_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("text")
    (tmp_path / ".a.lock").symlink_to(precious)
    with pytest.raises(OSError, match="cannot be written"), exclusive(tmp_path / "a"):
        pass
    assert precious.read_text() == "text"


def test_empty_parent_directories_are_removed_after_a_failure(tmp_path):
    with pytest.raises(ZeroDivisionError), exclusive(tmp_path / "x" / "y" / "a"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    with exclusive(tmp_path / "x" / "y" / "a"):
        (tmp_path / "x" / "y" / "a").write_text("")
    assert [p.name for p in (tmp_path / "x" / "y").iterdir()] == ["a"]
