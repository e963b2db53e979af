"""Object stores: foreign objects are kept; interrupted uploads and removals are completed."""

import json

import pytest
from jobs_helpers import CYCLES

from fourcaster.forecast.jobs.manifests import Manifest, checksum
from fourcaster.forecast.jobs.object_store import ObjectStore
from fourcaster.forecast.jobs.output_store import ForeignFileError, LeaseLostError


class MemoryObjectStore(ObjectStore):
    """An object store in memory."""

    def __init__(self, local):
        self.root = "memory://x"
        self._store = pytest.importorskip("obstore").store.MemoryStore()
        self.work = local


def put(store, **objects):
    """Write objects; in their names, ``__`` stands for a slash and ``_`` for a dot."""
    for key, value in objects.items():
        store._store.put(key.replace("__", "/").replace("_", "."), value)


def read_all(store):
    return {key: store._get(key) for key in store._list("")}


@pytest.fixture
def upload(tmp_path):
    """Return an object store, and a function that publishes a small forecast in it."""
    store = MemoryObjectStore(tmp_path)

    def publish(cycle=CYCLES[0], lease_held=lambda: True):
        output = tmp_path / "new.zarr"
        plot = tmp_path / "new.png"
        output.mkdir(exist_ok=True)
        (output / "zarr.json").write_text("forecast")
        plot.write_text("plot")
        manifest = Manifest({"job": "tiny", "cycle": cycle, "checksum": checksum(output)})
        store.publish("x.zarr", output, manifest, attachments={"x.t2m.png": plot}, lease_held=lease_held)
        return manifest.checksum

    return store, publish


@pytest.mark.parametrize("key", ["x_zarr__mine", "x_zarr", "x_zarr_json", "x_t2m_png", "x_zarr__zarr_json"])
def test_foreign_objects_are_kept(upload, key):
    store, publish = upload
    put(store, **{key: b"mine"})
    before = read_all(store)
    with pytest.raises(ForeignFileError, match="is in the way, which no job published for this cycle"):
        publish()
    assert read_all(store) == before
    assert store.verify_checksum("x.zarr") is None
    with pytest.raises(ForeignFileError, match="is in the way"):
        publish(CYCLES[1])


def test_manifest_records_whether_the_hook_has_run(upload):
    store, publish = upload
    published = publish()
    before = read_all(store)
    store.record_hook_ended("x.zarr")
    assert read_all(store) == before  # as for earlier versions and jobs without a hook
    manifest = Manifest(json.loads(before["x.zarr.json"]))
    store._put("x.zarr.json", manifest.with_hook_pending().to_bytes())
    assert dict(store.manifests())["x.zarr"].hook_pending
    store.record_hook_ended("x.zarr")
    ((_, manifest),) = store.manifests()
    assert not manifest.hook_pending
    assert manifest.values["on_success"] == "ended"
    assert store.verify_checksum("x.zarr", published)
    store.record_hook_ended("y.zarr")
    assert "y.zarr.json" not in read_all(store)


def test_own_uploads_are_completed_and_foreign_objects_are_not_removed(upload):
    store, publish = upload
    lease_states = iter([True, False])
    with pytest.raises(LeaseLostError):
        publish(lease_held=lambda: next(lease_states))  # the upload is not completed
    assert "x.zarr.making" in read_all(store)
    assert store.verify_checksum("x.zarr") is None
    published = publish()
    assert store.verify_checksum("x.zarr", published)
    assert set(read_all(store)) == {"x.zarr/zarr.json", "x.zarr.json", "x.t2m.png"}
    put(store, x_mine_png=b"mine", x_zarr__mine=b"mine")
    with pytest.raises(ForeignFileError, match="is not what was published there"):
        store.remove("x.zarr", published)
    store._delete(["x.zarr/mine"])
    with pytest.raises(ForeignFileError, match="is not what was published there"):
        store.remove("x.zarr", "0" * 64)
    delete = store._delete
    remaining = [1]

    def delete_until_killed(names):
        if not remaining:
            raise KeyboardInterrupt
        remaining.pop()
        delete(names)

    store._delete = delete_until_killed
    with pytest.raises(KeyboardInterrupt):
        store.remove("x.zarr", published)
    store._delete = delete
    assert "x.zarr.json" not in read_all(store)
    assert "x.zarr/zarr.json" in read_all(store)
    store.remove("x.zarr", published)
    assert set(read_all(store)) == {"x.mine.png"}
    store.remove("x.zarr", published)


def test_foreign_latest_object_is_kept(upload):
    store, _ = upload
    for value in (b"my file", b"\xff\xfe", b"../x.zarr"):
        put(store, latest=value)
        with pytest.raises(ForeignFileError, match="latest is an object that no job published"):
            store.set_latest("x.zarr")
        assert store.latest() is None
        assert read_all(store) == {"latest": value}
    put(store, latest=b"w.zarr")
    store.set_latest("x.zarr")
    assert store.latest() == "x.zarr"
