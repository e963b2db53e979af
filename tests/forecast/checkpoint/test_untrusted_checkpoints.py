"""Untrusted checkpoints: modified, damaged or oversized ones are rejected quickly, with a one-line error."""

import copy
import hashlib
import json
import os
import shutil
import struct
from contextlib import contextmanager

import pytest
import torch
from helpers import DATA, resource_limits
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.fno import AFNO, WeightsError
from fourcaster.forecast.checkpoint import meta as metadata
from fourcaster.forecast.checkpoint.description import ForecastDescription
from fourcaster.forecast.checkpoint.folder import finished_run
from fourcaster.forecast.checkpoint.solution import load_operator
from fourcaster.forecast.checkpoint.weather import load_checkpoint, save_checkpoint
from fourcaster.forecast.cli.main import app
from fourcaster.forecast.inspection import inspect
from fourcaster.forecast.interop import import_network
from fourcaster.forecast.jobs.load import load_jobs
from fourcaster.forecast.tasks.dispatch import load_config, train
from fourcaster.forecast.tasks.registry import get_task

FORMAT_V1 = DATA / "checkpoint_v1"
KINDS = ("forecast", "format_v1", "pinn", "operator", "network")
LOAD = {
    "forecast": forecast.load,
    "format_v1": forecast.load,
    "pinn": lambda path: forecast.evaluate(path, "3x4"),
    "operator": load_operator,
    "network": forecast.load_network,
}
DELETED = object()
DEEP: list = []
for _ in range(100):
    DEEP = [DEEP]
VALUES = [None, -1, 10**9, 10**30, [], {}, DEEP, float("nan"), "wrong"]


@pytest.fixture(scope="module")
def checkpoints(tiny_checkpoint, tmp_path_factory):
    """Return a folder with a small checkpoint of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    small = [
        "train.windows=2",
        "train.points=50",
        "train.iterations=1",
        "train.initial_points=16",
        "model.width=4",
        "model.depth=2",
    ]
    train(load_config("pinn/convection", ["equation.beta=5", f"output={folder}/pinn", *small]))
    small = [
        "equation.resolution=16",
        "equation.frames=4",
        "equation.duration=0.5",
        "data.samples=8",
        "model.hidden_channels=4",
        "model.n_layers=1",
    ]
    small += [
        "model.n_modes=[4]",
        "model.windows=2",
        "model.nodes=3",
        "train.epochs=1",
        "train.batch_size=8",
        "train.validation_steps=1",
    ]
    train(load_config("pino/burgers", [*small, f"output={folder}/operator"]))
    arguments = {
        "patch_size": (4, 4),
        "in_channels": 2,
        "out_channels": 3,
        "embed_dim": 8,
        "depth": 2,
        "num_blocks": 2,
    }
    torch.save(AFNO((8, 12), **arguments).state_dict(), folder / "afno.pt")
    import_network(
        folder / "afno.pt",
        "physicsnemo",
        folder / "network" / "checkpoint",
        arguments={"inp_shape": [8, 12]},
    )
    shutil.copytree(tiny_checkpoint, folder / "forecast" / "checkpoint")
    shutil.copytree(FORMAT_V1, folder / "format_v1" / "checkpoint")
    return folder


@pytest.fixture
def modify_checkpoint(checkpoints, tmp_path):
    """Return a function that copies a checkpoint with modified metadata or weights.

    The checksum of the metadata is ``unchanged``, ``absent`` (as in format 1) or ``recomputed``.
    """

    def modify(kind, change=None, weights=None, checksum="absent"):
        path = tmp_path / "run" / "checkpoint"
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(checkpoints / kind / "checkpoint", path)
        meta = json.loads((path / "meta.json").read_text())
        if weights is not None:
            tensors = load_file(path / "weights.safetensors")
            tensors.update(weights(tensors))
            save_file({name: t for name, t in tensors.items() if t is not None}, path / "weights.safetensors")
        if change is not None:
            change(meta)
        if checksum != "unchanged":
            meta["sha256"] = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
        if checksum == "absent":
            meta.pop("checksum", None)
            meta["format_version"] = 1
            to_legacy_format(meta)
        if checksum == "recomputed":
            if meta["format_version"] < 3:
                meta["format_version"] = 2
            meta["checksum"] = metadata.checksum(meta)
        (path / "meta.json").write_text(json.dumps(meta))
        return path

    return modify


def to_legacy_format(meta):
    """Convert metadata to the form of formats 1 and 2, with ``kind`` instead of ``task``."""
    if (task := meta.pop("task", "weather")) != "weather":
        meta["kind"] = task
    if isinstance(meta.get("config"), dict):
        meta["config"].pop("task", None)


def assert_rejected(kind, path, match=None):
    with resource_limits(), pytest.raises(ValueError, match=match) as error:
        LOAD[kind](path)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 5000
    return str(error.value)


def set_value(*keys, value):
    def change(meta):
        for key in keys[:-1]:
            meta = meta[key]
        if value is DELETED:
            del meta[keys[-1]]
        else:
            meta[keys[-1]] = value

    return change


def key_paths(value, keys=()):
    """Yield the key paths of all values; of lists, only the first and the last entry."""
    if keys:
        yield keys
    if isinstance(value, dict):
        for key in value:
            yield from key_paths(value[key], (*keys, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} if value else ()):
            yield from key_paths(value[i], (*keys, i))


@pytest.mark.parametrize("kind", KINDS)
def test_every_modified_value_is_rejected_or_harmless(modify_checkpoint, kind):
    """Delete each value or replace it by other types and sizes, in format 1 without a checksum."""
    path = modify_checkpoint(kind)
    meta = json.loads((path / "meta.json").read_text())
    LOAD[kind](path)
    accepted = set()
    for i, keys in enumerate(key_paths(meta)):
        for value in [DELETED, *VALUES[i % 3 :: 3]]:
            other = copy.deepcopy(meta)
            set_value(*keys, value=value)(other)
            (path / "meta.json").write_text(json.dumps(other))
            with resource_limits(seconds=5):
                for use in (LOAD[kind], inspect):
                    try:
                        use(path)
                        if use is LOAD[kind] and other != meta and value is not DELETED:
                            accepted.add(".".join(map(str, keys)))
                    except (ValueError, OSError) as error:
                        assert len(str(error).splitlines()) == 1, (keys, value)
                        assert use is not inspect or str(path) in str(error), (keys, value)
    for name in (
        "channels",
        "latitude",
        "window",
        "dtypes",
        "forcings",
        "normalisation",
        "sha256",
        "format_version",
        "kind",
        "model",
        "config",
    ):
        assert name not in accepted
    sizing = (
        "n_layers",
        "members",
        "hidden_channels",
        "width",
        "depth",
        "kind",
        "nodes",
        "embed_dim",
        "num_blocks",
        "inp_shape",
        "scales",
        "name",
    )
    assert not {
        name
        for name in accepted
        if name.endswith(sizing) and not name.startswith(("attrs", "versions", "config.data"))
    }


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "format_v1"])
def test_metadata_checksum_detects_every_modified_value(modify_checkpoint, kind):
    path = modify_checkpoint(kind, checksum="unchanged")
    meta = json.loads((path / "meta.json").read_text())
    assert meta["format_version"] == metadata.FORMAT_VERSION
    for keys in key_paths(meta):
        for value in (DELETED, "2001-01-01"):
            other = copy.deepcopy(meta)
            set_value(*keys, value=value)(other)
            if other == meta:
                continue
            (path / "meta.json").write_text(json.dumps(other))
            for use in (
                LOAD[kind],
                inspect,
                lambda path: finished_run(
                    path.parent,
                    get_task(meta["task"]).description,
                    task=meta["task"],
                    digest=meta.get("provenance", {}).get("fingerprint", ""),
                ),
            ):
                with pytest.raises(
                    ValueError,
                    match=r"was changed after it was written|format_version is missing|format version"
                    r"|task is|finished run",
                ):
                    use(path)
    (path / "meta.json").write_text(json.dumps(dict(reversed(meta.items())), indent=7))
    LOAD[kind](path)  # the order of keys and white space are not significant


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: meta["normalisation"]["std"].reverse(),
        lambda meta: meta["normalisation"]["mean"].__setitem__(0, 1.0),
        lambda meta: meta["channels"].reverse(),
        lambda meta: meta["channels"][0].__setitem__("units", "km/h"),
        lambda meta: meta.__setitem__("step_seconds", 3600),
        lambda meta: meta["latitude"].reverse(),
        lambda meta: meta["provenance"].__setitem__("train_period", ["1900-01-01", "1900-01-02"]),
        lambda meta: meta["training_range"].__setitem__(0, [-1e9, -1e9]),
    ],
)
def test_modified_metadata_fail_the_checksum(modify_checkpoint, change):
    path = modify_checkpoint("forecast", change, checksum="unchanged")
    assert_rejected("forecast", path, "was changed after it was written")
    with pytest.raises(ValueError, match="was changed after it was written"):
        inspect(path)


@pytest.mark.parametrize("kind", KINDS)
def test_modified_weights_fail_the_checksum(checkpoints, modify_checkpoint, kind):
    path = modify_checkpoint(kind, checksum="unchanged")
    content = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(content[:-3] + bytes([content[-3] ^ 1]) + content[-2:])
    assert_rejected(kind, path, "damaged or was changed after it was written: its checksum")
    other = hashlib.sha256((path / "weights.safetensors").read_bytes()).hexdigest()
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps(meta | {"sha256": other}))
    if kind != "format_v1":
        assert_rejected(kind, path, r"meta\.json was changed after it was written")


def test_old_checkpoints_load_with_a_single_warning(modify_checkpoint, caplog):
    path = modify_checkpoint("format_v1")
    metadata.warn_of_old_format.cache_clear()
    for _ in range(3):
        forecast.load(path)
    warnings = [record.message for record in caplog.records if "older version" in record.message]
    assert len(warnings) == 1 and str(path) in warnings[0]
    caplog.clear()
    forecast.load(modify_checkpoint("forecast", checksum="unchanged"))
    assert not caplog.records


@pytest.mark.parametrize("version", [2, 3])
def test_checkpoints_of_later_formats_remain_readable(version, caplog):
    path = FORMAT_V1.with_name(f"checkpoint_v{version}")
    first, second = load_checkpoint(FORMAT_V1), load_checkpoint(path)
    weights = first.stepper.state_dict()
    assert all(torch.equal(t, weights[name]) for name, t in second.stepper.state_dict().items())
    assert second.config == first.config and second.channels == first.channels
    meta = json.loads((path / "meta.json").read_text())
    assert meta["format_version"] == version
    assert forecast.load(path).checkpoint.identity == meta["checksum"]
    assert not [record for record in caplog.records if path.name in record.message]


OVERSIZED = [
    ("forecast", ("config", "model", "n_layers"), 10**9),
    ("forecast", ("config", "model", "n_layers"), 9_999),
    ("forecast", ("config", "model", "members"), 10**7),
    ("forecast", ("config", "model", "members"), 9_999),
    ("forecast", ("config", "model", "hidden_channels"), 20_000),
    ("forecast", ("config", "model", "hidden_channels"), 60_000),
    ("forecast", ("config", "model", "n_modes"), [10**9, 10**9]),
    ("forecast", ("config", "model", "lifting_channel_ratio"), 1000.0),
    ("forecast", ("config", "model"), {"kind": "sfno", "lmax": 10**6}),
    ("forecast", ("config", "model"), {"kind": "afno", "depth": 9_999, "embed_dim": 65_536, "num_blocks": 1}),
    ("forecast", ("config", "model"), {"kind": "afno", "patch_size": [10**6, 10**6], "embed_dim": 65_536}),
    ("forecast", ("config", "model"), {"kind": "tfno", "rank": 1000.0, "hidden_channels": 60_000}),
    ("forecast", ("latitude",), [90 - 180 * i / 40_000 for i in range(40_000)]),
    ("forecast", ("latitude",), [90 - 180 * i / 19_000 for i in range(19_000)]),
    ("forecast", ("longitude",), [360 * i / 19_000 for i in range(19_000)]),
    ("forecast", ("channels",), [{"variable": f"v{i}", "level": None, "units": "K"} for i in range(10_000)]),
    ("forecast", ("window",), 9_999),
    ("forecast", ("normalisation", "std"), [1.0] * 19_000),
    ("pinn", ("config", "train", "windows"), 10**9),
    ("pinn", ("config", "train", "windows"), 10**6),
    ("pinn", ("config", "model", "depth"), 10**9),
    ("pinn", ("config", "model", "width"), 60_000),
    ("pinn", ("config", "model", "harmonics"), 60_000),
    ("pinn", ("config", "model", "fourier_features"), 60_000),
    ("operator", ("config", "model", "n_layers"), 10**9),
    ("operator", ("config", "model", "hidden_channels"), 60_000),
    ("operator", ("config", "model", "nodes"), 10**6),
    ("operator", ("config", "model", "n_modes"), [10**9]),
    ("operator", ("config", "model", "n_modes"), [8, 8, 8]),
    ("operator", ("provenance", "system", "resolution"), 10**9),
    ("operator", ("provenance", "system", "frames"), 10**9),
    ("operator", ("provenance", "trained_grid"), [10**9]),
    ("operator", ("provenance", "trained_grid"), [32] * 3),
    ("operator", ("provenance", "scales", "solution"), [1.0] * 1000),
    ("operator", ("config", "equation", "name"), "shallow_water"),
    ("network", ("model", "arguments", "depth"), 10**9),
    ("network", ("model", "arguments", "embed_dim"), 10**6),
    ("network", ("model", "arguments", "inp_shape"), [10**9, 10**9]),
    ("network", ("model", "arguments", "inp_shape"), [10**6, 10**6]),
    ("network", ("model", "arguments", "mlp_ratio"), 1e6),
    (
        "network",
        ("model",),
        {
            "model": "fno",
            "arguments": {
                "n_modes": [10**6] * 8,
                "in_channels": 1,
                "out_channels": 1,
                "hidden_channels": 10**6,
            },
        },
    ),
    (
        "network",
        ("model",),
        {
            "model": "sfno",
            "arguments": {"lmax": 10**6, "in_channels": 1, "out_channels": 1, "hidden_channels": 10**6},
        },
    ),
    (
        "network",
        ("model",),
        {
            "model": "fno",
            "arguments": {"n_modes": [4], "in_channels": 1, "out_channels": 1, "n_layers": 10**6},
        },
    ),
]


@pytest.mark.parametrize(
    ("kind", "keys", "value"),
    OVERSIZED,
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else None,
)
@pytest.mark.parametrize("checksum", ["absent", "recomputed"])
def test_sizes_are_checked_against_the_weights_before_construction(
    modify_checkpoint, kind, keys, value, checksum
):
    def change(meta):
        set_value(*keys, value=value)(meta)
        if keys == ("window",):
            meta["config"]["model"]["window"] = value

    assert_rejected(kind, modify_checkpoint(kind, change, checksum=checksum))


def replace_tensor(name, transform):
    return lambda tensors: {name: transform(tensors[name])}


GATE = "network.networks.0.blocks.0.gate"


@pytest.mark.parametrize(
    ("name", "transform", "match"),
    [
        (GATE, lambda t: t.int(), "gate has type int32, expected float32"),
        (GATE, lambda t: t > 0, "gate has type bool"),
        (GATE, lambda t: t.to(torch.complex64), "gate has type complex64"),
        (GATE, lambda t: t.to(torch.float8_e5m2), "gate has type float8_e5m2"),
        (GATE, lambda t: t * torch.nan, "not finite: networks.0.blocks.0.gate"),
        (GATE, lambda t: t.double() * 1e200, "not finite"),
        (GATE, lambda t: t[:3], r"gate has shape \(3,\), expected \(8,\)"),
        (GATE, lambda t: None, "missing networks.0.blocks.0.gate"),
        ("fields.static", lambda t: t * torch.inf, "fields.static has values that are not finite"),
        ("fields.static", lambda t: t.double(), "fields.static has shape"),
        ("fields.static", lambda t: t[0], "fields.static has shape"),
        ("fields.static", lambda t: None, "lacks fields.static"),
        ("fields.static", lambda t: t[:1].expand(50, -1, -1).contiguous(), "does not fit Ensemble"),
        ("fields.mask", lambda t: t.to(torch.uint8), "fields.mask has shape"),
        ("fields.mask", lambda t: t[:1], "fields.mask has shape"),
        ("fields.cycle", lambda t: t * torch.nan, "fields.cycle has values that are not finite"),
        ("fields.cycle", lambda t: torch.cat([t, t], dim=1), "an odd number"),
        ("fields.cycle", lambda t: t.to(torch.complex64), "fields.cycle has shape"),
        ("fields.cycle_minutes", lambda t: t.flip(0), "increasing minutes"),
        ("fields.cycle_minutes", lambda t: t + 1440, "increasing minutes"),
        ("fields.cycle_minutes", lambda t: t.float(), "fields.cycle_minutes has shape"),
        ("fields.cycle_minutes", lambda t: t[:0], "has shape"),
    ],
)
def test_tensors_of_wrong_type_shape_or_value_are_rejected(modify_checkpoint, name, transform, match):
    assert_rejected(
        "forecast",
        modify_checkpoint("forecast", weights=replace_tensor(name, transform), checksum="recomputed"),
        match,
    )


def test_mask_with_bytes_other_than_0_and_1_is_rejected(modify_checkpoint):
    path = modify_checkpoint("forecast", checksum="unchanged")
    content = bytearray((path / "weights.safetensors").read_bytes())
    length = struct.unpack("<Q", content[:8])[0]
    content[8 + length + json.loads(content[8 : 8 + length])["fields.mask"]["data_offsets"][0]] = 7
    (path / "weights.safetensors").write_bytes(content)
    meta = json.loads((path / "meta.json").read_text())
    meta["sha256"] = hashlib.sha256(content).hexdigest()
    (path / "meta.json").write_text(json.dumps(meta | {"checksum": metadata.checksum(meta)}))
    assert_rejected("forecast", path, "values other than 0 and 1")


@pytest.mark.parametrize(
    ("keys", "value", "match"),
    [
        (("normalisation", "std", 0), 0.0, r"normalisation\.std\.0"),
        (("normalisation", "std", 0), -1.0, r"normalisation\.std\.0"),
        (("normalisation", "mean", 0), float("nan"), r"normalisation\.mean\.0"),
        (("normalisation", "tendency_std", 1), float("inf"), r"normalisation\.tendency_std\.1"),
        (("normalisation", "anomaly_std"), [1.0], r"normalisation\.anomaly_std has 1 entries for 2 channels"),
        (("training_range", 0), [9e9, 9e9], "a least value above the largest"),
        (("training_range", 0), [1.0], "training_range has 1 entries"),
        (("step_seconds",), 0, "step_seconds"),
        (("step_seconds",), "6h", "step_seconds"),
        (("dtypes", 0), "object", r"dtypes\.0"),
        (("forcings",), ["toa_radiation", "magic"], r"forcings\.1"),
        (("forcings",), ["cos_year", "cos_year"], "forcings names one twice"),
        (("channels", 1), {"variable": "u10", "level": None, "units": "m/s"}, "names a channel twice"),
        (("attrs",), {}, "attrs lacks"),
        (("attrs", "t2m"), {"units": ["K"]}, "t2m: units should be a text"),
        (("provenance", "train_period", 0), "NaT", r"provenance\.train_period\.0: should be a time"),
        (("latitude", 0), 1000.0, "latitude must"),
        (("latitude", 0), "north", r"latitude\.0"),
        (("wraps",), [True, True], "wraps belongs to y and x"),
        (("more",), 1, "more: Extra inputs are not permitted"),
        (("kind",), "weather", "kind is 'weather'"),
        (("kind",), [], "kind is a list"),
        (("kind",), None, "kind is null"),
        (("format_version",), 1.0, "format version 1.0"),
        (("format_version",), 99, "format version 99"),
        (("format_version",), [[]], "format version a list"),
        (("config", "model", "kind"), "magic", r"config\.model"),
        (("config", "train", "epochs"), "many", r"config\.train\.epochs"),
    ],
)
def test_errors_name_the_file_and_the_key(modify_checkpoint, keys, value, match):
    path = modify_checkpoint("forecast", checksum="unchanged")
    meta = json.loads((path / "meta.json").read_text())
    meta |= {"format_version": 1}
    to_legacy_format(meta)
    del meta["checksum"]
    set_value(*keys, value=value)(meta)
    (path / "meta.json").write_text(json.dumps(meta))
    assert str(path) in assert_rejected("forecast", path, match)


INVALID_METADATA = {
    "empty": b"",
    "list": b"[]",
    "null": b"null",
    "string": b'"checkpoint"',
    "number": b"1",
    "truncated": b'{"format_version": 1',
    "not JSON": b"no JSON",
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "duplicate key": b'{"format_version": 1, "format_version": 1}',
    "latin-1": b'{"a": "\xff"}',
    "utf-16": '{"format_version": 1}'.encode("utf-16"),
    "too many digits": b'{"format_version": ' + b"1" * 5000 + b"}",
    "many values": b'{"format_version": 1, "a": [' + b"[]," * 30_000 + b"0]}",
    "empty object": b"{}",
    "version only": b'{"format_version": 2}',
}


@pytest.mark.parametrize("name", INVALID_METADATA)
def test_invalid_metadata_files_are_rejected_by_every_command(modify_checkpoint, tiny_store, tmp_path, name):
    path = modify_checkpoint("forecast")
    (path / "meta.json").write_bytes(INVALID_METADATA[name])
    for args in (
        ("inspect", path),
        ("inspect", path.parent),
        ("run", path, "--init", tiny_store, "-o", tmp_path / "x.zarr"),
        ("export", path, "--format", "torch-export", "-o", tmp_path / "x.pt2"),
    ):
        with resource_limits():
            result = CliRunner().invoke(app, [str(arg) for arg in args])
        lines = result.stderr.strip().splitlines()
        assert (
            result.exit_code == 2 and len(lines) == 1 and len(lines[0]) < 500 and "meta.json" in lines[0]
        ), (result.output, result.exception)
    with resource_limits(), pytest.raises(ValueError, match=r"meta\.json"):
        finished_run(path.parent, ForecastDescription, task="weather", digest="x")
    jobs = {
        "jobs": [
            {
                "name": "a",
                "checkpoint": str(path),
                "source": str(tiny_store),
                "cycle": "0 * * * *",
                "lead": "6h",
                "output": "out/{cycle}",
            }
        ]
    }
    (tmp_path / "jobs.yaml").write_text(json.dumps(jobs))
    with resource_limits(), pytest.raises(ValueError, match=r"jobs\.yaml"):
        load_jobs(tmp_path / "jobs.yaml")


def test_metadata_of_a_gigabyte_are_not_read(modify_checkpoint):
    path = modify_checkpoint("forecast")
    with open(path / "meta.json", "wb") as file:
        file.truncate(2**30)
    assert_rejected("forecast", path, "1073741824 bytes, more than the allowed")


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_weights_are_rejected(modify_checkpoint, kind):
    path = modify_checkpoint(kind)
    file = path / "weights.safetensors"
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    first, second = [name for name in header if name != "__metadata__"][:2]
    overlapping = json.dumps(
        header | {first: header[first] | {"data_offsets": header[second]["data_offsets"]}}
    ).encode()
    unknown = json.dumps(header | {first: header[first] | {"dtype": "PICKLE"}}).encode()
    for damaged in (
        b"",
        content[:7],
        content[:100],
        content[:-1],
        content + b"x",
        struct.pack("<Q", 2**63) + content[8:],
        struct.pack("<Q", 3) + content[8:],
        struct.pack("<Q", len(overlapping)) + overlapping + content[8 + length :],
        struct.pack("<Q", len(unknown)) + unknown + content[8 + length :],
        b"PK\x03\x04" + content[4:],
        b"\x00" * len(content),
    ):
        file.write_bytes(damaged)
        meta = json.loads((path / "meta.json").read_text())
        (path / "meta.json").write_text(json.dumps(meta | {"sha256": hashlib.sha256(damaged).hexdigest()}))
        assert_rejected(kind, path, "damaged")
    file.unlink()
    assert_rejected(kind, path, "has no weights.safetensors")


def test_pipes_and_devices_are_rejected_and_symlinks_to_files_followed(modify_checkpoint, tmp_path):
    path = modify_checkpoint("forecast", checksum="unchanged")
    for name in ("meta.json", "weights.safetensors"):
        target = (path / name).rename(tmp_path / name)
        os.mkfifo(path / name)
        assert name in assert_rejected("forecast", path, "is not a regular file")
        (path / name).unlink()
        (path / name).symlink_to("/dev/zero")
        assert_rejected("forecast", path, "is not a regular file")
        with (
            pytest.raises(ValueError, match="regular file")
            if name == "meta.json"
            else contextmanager(lambda: iter([None]))()
        ):
            inspect(path)
        (path / name).unlink()
        (path / name).symlink_to(target)
    forecast.load(path)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_file_modes_follow_the_umask(tiny_checkpoint, tmp_path, umask):
    before = os.umask(umask)
    try:
        save_checkpoint(load_checkpoint(tiny_checkpoint), tmp_path / "copy")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "copy").iterdir()} == {0o666 & ~umask}


def test_checkpoint_identity_depends_on_the_metadata(modify_checkpoint, tiny_checkpoint):
    """An interrupted forecast is not resumed with a different normalisation."""

    def change(meta):
        meta["normalisation"]["mean"][0] = 1.0

    models = [
        forecast.load(path)
        for path in (tiny_checkpoint, modify_checkpoint("forecast", change, checksum="recomputed"))
    ]
    assert models[0].checkpoint.identity != models[1].checkpoint.identity
    first = json.loads((FORMAT_V1 / "meta.json").read_text())
    assert forecast.load(FORMAT_V1).checkpoint.identity == first["sha256"]  # as in earlier versions


def test_mismatched_weights_are_listed_before_the_checksum_is_computed(modify_checkpoint):
    path = modify_checkpoint(
        "forecast",
        weights=lambda tensors: {"network.surplus": torch.zeros(1), GATE: None},
        checksum="unchanged",
    )
    with pytest.raises(WeightsError, match=r"missing networks.0.blocks.0.gate; unknown surplus"):
        forecast.load(path)


def test_damaged_training_state_or_log_is_a_one_line_error(tiny_store, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "data": {"store": str(tiny_store)},
                "model": {"kind": "fno", "n_modes": [2, 2], "hidden_channels": 2, "n_layers": 1},
                "train": {"epochs": 1, "batch_size": 64, "validation_steps": 1},
                "output": str(tmp_path / "run"),
            }
        )
    )
    args = ["train", str(config)]
    assert CliRunner().invoke(app, args).exit_code == 0
    shutil.rmtree(tmp_path / "run" / "checkpoint")
    state = tmp_path / "run" / "state"
    for name, damage, message in (
        ("training.safetensors", lambda b: b[:-1], "is not a training state"),
        ("training.safetensors", lambda b: b.replace(b"average:", b"averaqe:"), "the group average of"),
        (
            "training.safetensors",
            lambda b: b.replace(
                b"model:network.networks.0.blocks.0.gate", b"model:network.networks.0.blocks.0.gatf"
            ),
            "unknown",
        ),
        (
            "training.safetensors",
            lambda b: b.replace(b"optimizer:0.", b"optimizer:q."),
            "of the optimizer fit no parameter",
        ),
        ("log.jsonl", lambda b: b"[]\n" + b, "is damaged in line 1"),
        ("log.jsonl", lambda b: b"\xff\n" + b, "is damaged in line 1"),
    ):
        original = (state / name).read_bytes()
        (state / name).write_bytes(damage(original))
        result = CliRunner().invoke(app, args)
        lines = result.stderr.strip().splitlines()
        assert result.exit_code == 2 and message in lines[-1], (name, result.output, result.exception)
        (state / name).write_bytes(original)
    assert CliRunner().invoke(app, args).exit_code == 0
