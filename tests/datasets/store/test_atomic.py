"""Atomic publication: contents are synchronised before the rename, and the parent directory after it."""

import errno
import os
import stat

import pytest

from fourcaster.datasets.store import atomic
from fourcaster.datasets.store.journal import Journal


@pytest.fixture
def calls(monkeypatch):
    """Record synchronised inodes and targets of renames, in order."""
    record = []
    for name in ("rename", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda a, b, original=original: (record.append(("rename", str(b))), original(a, b))[1]
        )
    original_fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda f: (record.append(("sync", os.fstat(f).st_ino)), original_fsync(f))[1]
    )
    return record


def test_a_directory_is_synchronised_before_it_is_renamed(calls, tmp_path):
    target = tmp_path / "a"
    with atomic.replacing(target, overwrite=False, kind="checkpoint") as temporary:
        (temporary / "deep" / "er").mkdir(parents=True)
        (temporary / "deep" / "er" / "file").write_text("x")
        (temporary / "file").write_text("y")
    renamed = calls.index(("rename", str(target)))
    inside = {path.stat().st_ino for path in (target, *target.rglob("*"))}
    assert inside <= {inode for kind, inode in calls[:renamed] if kind == "sync"}
    assert ("sync", tmp_path.stat().st_ino) in calls[renamed:]


def test_a_file_is_synchronised_before_it_is_renamed(calls, tmp_path):
    atomic.write_file(tmp_path / "a", b"new")
    assert [kind for kind, _ in calls] == ["sync", "rename", "sync"]
    assert calls[0][1] == (tmp_path / "a").stat().st_ino and calls[2][1] == tmp_path.stat().st_ino
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~current_umask()


def current_umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_part_is_synchronised_before_it_is_marked_complete(calls, tmp_path):
    journal = Journal(tmp_path / "x.zarr", {"of": "this"})
    assert not journal.resume()
    chunk = tmp_path / "x.zarr" / "t2m" / "c" / "0"
    chunk.mkdir(parents=True)
    (chunk / "0").write_text("values")
    journal.start()
    calls.clear()
    # u10/c/0 would contain only fill values, which are not written.
    journal.mark_complete("0", ["t2m/c/0", "u10/c/0"])
    synced = {inode for kind, inode in calls if kind == "sync"}
    assert (
        synced >= {path.stat().st_ino for path in (chunk / "0", chunk, chunk.parent)}
        and journal.is_complete("0")
        and journal.resume()
    )


def test_a_failed_write_keeps_the_old_file_and_leaves_no_temporary_file(tmp_path, monkeypatch):
    atomic.write_file(tmp_path / "a", b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_file(tmp_path / "a", b"new")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    "plant", ["link to a folder", "link to a file", "file", "folder of others", "open folder"]
)
def test_foreign_files_in_place_of_the_workspace_are_neither_used_nor_removed(tmp_path, plant):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "a").write_text("keep")
    folder = atomic.workspace(tmp_path / "a")
    if plant == "link to a folder":
        folder.symlink_to(precious)
    elif plant == "link to a file":
        folder.symlink_to(precious / "a")
    elif plant == "file":
        folder.write_text("keep")
    else:
        folder.mkdir(mode=0o700)
        (folder / ("a" if plant == "open folder" else "diary")).write_text("keep")
        if plant == "open folder":
            folder.chmod(0o777)
    for keep_partial in (False, True):
        with (
            pytest.raises(FileExistsError, match="is in the way"),
            atomic.replacing(
                tmp_path / "a", overwrite=False, kind="checkpoint", keep_partial=keep_partial
            ) as temporary,
        ):
            temporary.write_text("new")
    assert not (tmp_path / "a").exists() and (precious / "a").read_text() == "keep"
    assert folder.is_symlink() or folder.exists()


def test_a_file_created_at_the_target_during_the_write_is_kept(tmp_path):
    with (
        pytest.raises(FileExistsError, match="was created meanwhile"),
        atomic.replacing(tmp_path / "a", overwrite=False, kind="checkpoint") as temporary,
    ):
        temporary.mkdir()
        (tmp_path / "a").write_text("of another program")
    assert (tmp_path / "a").read_text() == "of another program"


def test_a_reader_does_not_undo_a_replacement_in_progress(tmp_path, monkeypatch):
    """Between the two renames the path does not exist; a reader in another thread waits for the new one."""
    import threading

    target = tmp_path / "a"
    with atomic.replacing(target, overwrite=False, kind="checkpoint") as temporary:
        temporary.mkdir()
    original, between, readers = os.rename, threading.Event(), []

    def rename(a, b):
        original(a, b)
        if str(b).endswith("old"):
            reader = threading.Thread(
                target=lambda: (atomic.recover(target), readers.append(sorted(os.listdir(target))))
            )
            reader.start()
            between.wait(0.3)
            readers.append(reader)

    monkeypatch.setattr(os, "rename", rename)
    with atomic.replacing(target, overwrite=True, kind="checkpoint") as temporary:
        temporary.mkdir()
        (temporary / "new").write_text("x")
    readers[0].join()
    assert readers[1] == ["new"] and sorted(os.listdir(tmp_path)) == ["a"]


@pytest.mark.parametrize("keep_partial", [False, True])
def test_a_kill_while_the_old_version_is_removed_leaves_nothing_to_recover(
    tmp_path, monkeypatch, keep_partial
):
    path = tmp_path / "x.zarr"

    def write(text):
        with atomic.replacing(path, overwrite=True, kind="store", keep_partial=keep_partial) as new:
            new.mkdir()
            for name in ("a", "b"):
                (new / name).write_text(text)

    class Killed(BaseException):
        pass

    def partly_remove(folder, *args, **more):
        (folder / "a").unlink(missing_ok=True)
        raise Killed

    write("old")
    monkeypatch.setattr(atomic.outputs, "is_output", lambda path, kind: True)
    rmtree = atomic.shutil.rmtree
    monkeypatch.setattr(atomic.shutil, "rmtree", lambda folder, **more: partly_remove(next(folder.iterdir())))
    with pytest.raises(Killed):
        write("new")
    monkeypatch.setattr(atomic.shutil, "rmtree", rmtree)
    assert (path / "a").read_text() == (path / "b").read_text() == "new"
    assert {p.name for p in atomic.workspace(path).iterdir()} == {"discarded"}
    rmtree(path)  # by the user: a partial old version must not reappear
    atomic.recover(path)
    assert not path.exists()
    write("third")
    assert (path / "a").read_text() == "third" and not atomic.workspace(path).exists()
