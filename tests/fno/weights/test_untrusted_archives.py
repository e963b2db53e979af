"""Untrusted weights and training states are refused in one line, before anything large is allocated."""

import io
import json
import os
import struct
import tarfile
import zipfile

import pytest
import torch
from helpers import resource_limits

from fourcaster.fno import AFNO, WeightsError, import_weights
from fourcaster.fno.models.base import load_weights
from fourcaster.fno.training.log import TrainingLog, read_lines
from fourcaster.fno.training.state import load_state, restore_optimizer, save_state, save_tensors
from fourcaster.fno.weights.regular_file import check_memory, open_regular, read_regular
from fourcaster.fno.weights.strict_json import parse_json
from fourcaster.fno.weights.tensor_file import read_file, read_header

ARGUMENTS = {
    "patch_size": (4, 4),
    "in_channels": 2,
    "out_channels": 3,
    "embed_dim": 8,
    "depth": 2,
    "num_blocks": 2,
    "mlp_ratio": 2.0,
}
GRID = {"inp_shape": [8, 12]}


def assert_refused(path, format="physicsnemo", match=None, **arguments):
    with resource_limits(), pytest.raises(ValueError, match=match) as error:
        import_weights(path, format, **arguments)
    assert len(str(error.value).splitlines()) == 1 and len(str(error.value)) < 3000
    return str(error.value)


@pytest.fixture
def state():
    torch.manual_seed(0)
    return AFNO((8, 12), **ARGUMENTS).state_dict()


def saved(state, **options):
    buffer = io.BytesIO()
    torch.save(state, buffer, **options)
    return buffer.getvalue()


DESCRIBED = {
    "inp_shape": [8, 12],
    **{name: list(v) if isinstance(v, tuple) else v for name, v in ARGUMENTS.items()},
}


def description(**arguments):
    return json.dumps({"__name__": "AFNO", "__args__": DESCRIBED | arguments}).encode()


def zipped(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for member, content in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            if content is not None:
                info.size = len(content)
            tar.addfile(info, None if content is None else io.BytesIO(content))
    return path


@pytest.mark.parametrize("old", [False, True])
def test_files_of_both_formats_and_of_half_precision_load(tmp_path, state, old):
    half = {name: t.half() for name, t in state.items()}
    (tmp_path / "a.pt").write_bytes(saved(half, _use_new_zipfile_serialization=not old))
    model = import_weights(tmp_path / "a.pt", "physicsnemo", **GRID)
    assert all(torch.equal(t, half[name].float()) for name, t in model.state_dict().items())


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("kind", ["expanded", "strided", "shared", "meta", "sparse", "deep"])
def test_tensors_larger_than_their_storage_are_refused(tmp_path, state, kind, old):
    many = torch.zeros(2**20)
    hostile = {
        "expanded": {"pos_embed": torch.zeros(1).expand(1, 10**9, 8)},
        "strided": {"pos_embed": torch.zeros(64).as_strided((1, 8, 10**8), (0, 8, 0))},
        "shared": {f"surplus{i}": many for i in range(4000)},
        "meta": {"pos_embed": torch.empty(1, 10**9, 8, device="meta")},
        "sparse": {
            "pos_embed": torch.sparse_coo_tensor(
                torch.zeros(1, 1, dtype=torch.int64), torch.ones(1), (10**10,), check_invariants=True
            )
        },
        "deep": {"blocks.1000000000.norm1.weight": torch.zeros(8)},
    }[kind]
    (tmp_path / "a.pt").write_bytes(saved(state | hostile, _use_new_zipfile_serialization=not old))
    assert_refused(tmp_path / "a.pt", **GRID)


def test_storage_that_an_old_file_claims_but_lacks_is_refused(tmp_path, state):
    content = saved({"pos_embed": torch.zeros(12345)}, _use_new_zipfile_serialization=False)
    claimed = content.replace(
        b"M90", b"J\xff\xff\xff\x7f"
    )  # 12345 becomes 2147483647, wherever the file gives it
    assert claimed != content
    (tmp_path / "a.pt").write_bytes(claimed)
    assert_refused(tmp_path / "a.pt", **GRID)


@pytest.mark.parametrize(
    ("name", "tensor", "match"),
    [
        (
            "blocks.0.norm1.weight",
            torch.ones(8, dtype=torch.int64),
            "norm1.weight has type int64, expected float32",
        ),
        ("blocks.0.norm1.weight", torch.ones(8, dtype=torch.complex64), "has type complex64"),
        ("blocks.0.norm1.weight", torch.ones(8, dtype=torch.bool), "has type bool"),
        ("blocks.0.norm1.weight", torch.ones(8).to(torch.float8_e4m3fn), "has type float8_e4m3fn"),
        ("blocks.0.norm1.weight", torch.full((8,), torch.nan), "not finite"),
        ("blocks.0.norm1.weight", torch.full((8,), 1e300, dtype=torch.float64), "not finite"),
        ("patch_embed.proj.weight", torch.ones(8, 2, 4), "expected 4 dimensions"),
        ("patch_embed.proj.weight", torch.ones(8, 2, 4, 0), "none of them empty"),
        ("patch_embed.proj.weight", torch.ones(()), "expected 4 dimensions"),
        ("blocks.0.filter.w1", torch.ones(3), "expected 4 dimensions"),
        ("blocks.0.mlp.fc1.weight", torch.ones(0, 8), "none of them empty"),
        ("head.weight", torch.ones(3), "expected 2 dimensions"),
        ("blocks.one.bias", torch.ones(3), "should be numbered from 0 without gaps"),
        ("blocks." + "9" * 900, torch.ones(3), "should be numbered from 0 without gaps"),
        ("pos_embed", torch.ones(3), "pos_embed has shape"),
        ("x" * 2000, torch.ones(3), "is not the name of a tensor"),
        (("a", "b"), torch.ones(3), "is not the name of a tensor"),
    ],
)
def test_tensors_of_other_types_and_shapes_are_refused(tmp_path, state, name, tensor, match):
    torch.save(state | {name: tensor}, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", match=match, **GRID)


@pytest.mark.parametrize(
    "value",
    [
        [10**9, 10**9],
        [1e9, 12],
        [-8, 12],
        [float("nan"), 12],
        ["8", 12],
        [8],
        [8, 12, 16],
        "8,12",
        5,
        None,
        {"h": 8},
        [0, 12],
    ],
)
def test_impossible_arguments_are_refused(tmp_path, state, value):
    torch.save(state, tmp_path / "a.pt")
    assert_refused(tmp_path / "a.pt", inp_shape=value)
    if value is not None:
        assert_refused(
            zipped(
                tmp_path / "b.mdlus",
                [("args.json", description(inp_shape=value)), ("model.pt", saved(state))],
            )
        )


def test_arguments_that_the_file_contradicts_are_refused(tmp_path, state):
    for name, value in {
        "depth": 10**9,
        "embed_dim": 10**12,
        "num_blocks": 0,
        "patch_size": [0, 0],
        "mlp_ratio": 1e30,
        "sparsity_threshold": "x",
    }.items():
        assert_refused(
            zipped(
                tmp_path / "b.mdlus",
                [("args.json", description(**{name: value})), ("model.pt", saved(state))],
            )
        )


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b'"AFNO"',
        b"{}",
        b'{"__name__": "AFNO", "__args__": 3}',
        b"[" * 100_000,
        b'{"a": 1, "a": 2}',
        b"\xff\xfe",
        b" " * 2**21,
        b"9" * 10_000,
    ],
)
def test_damaged_descriptions_in_archives_are_refused(tmp_path, state, content):
    assert_refused(zipped(tmp_path / "a.mdlus", [("args.json", content), ("model.pt", saved(state))]))
    assert_refused(tarred(tmp_path / "b.mdlus", [("args.json", content), ("model.pt", saved(state))]))


def test_zip_bombs_are_refused(tmp_path, state):
    good = [("args.json", description()), ("model.pt", saved(state))]
    assert import_weights(zipped(tmp_path / "good.mdlus", good, zipfile.ZIP_DEFLATED), "physicsnemo")
    zeros = bytes(30 * 2**20)
    assert_refused(
        zipped(tmp_path / "a.mdlus", [*good, ("more", zeros)], zipfile.ZIP_DEFLATED), match="unpacks to"
    )
    assert_refused(
        zipped(tmp_path / "b.mdlus", [good[0], ("model.pt", zeros)], zipfile.ZIP_DEFLATED), match="unpacks to"
    )
    assert_refused(
        zipped(tmp_path / "c.mdlus", [("args.json", zeros), good[1]], zipfile.ZIP_DEFLATED),
        match="unpacks to",
    )
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(tmp_path / "d.mdlus", [*good, good[0]])
    assert_refused(tmp_path / "d.mdlus", match="two members of the same name")
    torch.save(state, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    assert_refused(zipped(tmp_path / "e.pt", members, zipfile.ZIP_DEFLATED), match="compressed tensors")


def test_members_with_a_wrong_size_in_the_table_of_contents_are_refused(tmp_path, state):
    whole = zipped(
        tmp_path / "a.mdlus", [("args.json", description()), ("model.pt", saved(state))]
    ).read_bytes()
    at = whole.rfind(b"PK\x01\x02")
    for size in (10, 2**31):
        (tmp_path / "b.mdlus").write_bytes(whole[: at + 24] + struct.pack("<I", size) + whole[at + 28 :])
        assert_refused(tmp_path / "b.mdlus")
    end = whole.rfind(b"PK\x05\x06")
    (tmp_path / "c.mdlus").write_bytes(whole[: end + 12] + struct.pack("<I", 2**31) + whole[end + 16 :])
    assert_refused(tmp_path / "c.mdlus")
    for cut in range(0, len(whole), len(whole) // 12):
        (tmp_path / "d.mdlus").write_bytes(whole[:cut])
        assert_refused(tmp_path / "d.mdlus", **GRID)


def test_tar_members_that_are_not_files_or_too_large_are_refused(tmp_path, state):
    good = [("args.json", description()), ("model.pt", saved(state))]
    assert import_weights(tarred(tmp_path / "good.mdlus", good), "physicsnemo")
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        link = tarfile.TarInfo("model.pt")
        link.type, link.linkname = kind, "/etc/passwd"
        assert "is not a file" in assert_refused(tarred(tmp_path / "a.mdlus", [good[0], (link, None)]))
    huge = tarfile.TarInfo("model.pt")
    huge.size = 10**12
    content = huge.tobuf()
    (tmp_path / "b.mdlus").write_bytes(
        tarred(tmp_path / "c.tar", good[:1]).read_bytes()[:2048] + content + bytes(1024)
    )
    assert_refused(tmp_path / "b.mdlus")
    assert_refused(tarred(tmp_path / "d.mdlus", [*good, ("x/args.json", description())]), match="two members")
    assert_refused(tarred(tmp_path / "e.mdlus", [*good, ("zeros", bytes(2**20))], "w:gz"))
    sparse = tarfile.TarInfo("model.pt")
    sparse.pax_headers = {
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(10**12),
        "GNU.sparse.numblocks": "1",
    }
    assert_refused(tarred(tmp_path / "f.mdlus", [good[0], (sparse, b"x")]))


def test_spectral_weights_of_other_kinds_are_refused(tmp_path):
    base = {
        "lifting.fcs.0.weight": torch.ones(4, 3, 1),
        "projection.fcs.0.weight": torch.ones(4, 4, 1),
        "projection.fcs.1.weight": torch.ones(1, 4, 1),
        "fno_blocks.convs.0.weight.tensor": torch.ones(4, 4, 3, 2, dtype=torch.complex64),
        "fno_blocks.channel_mlp.0.fcs.0.weight": torch.ones(2, 4, 1),
    }
    for name, tensor in {
        "fno_blocks.convs.0.weight.tensor": torch.ones(0, 0, 3, 2, dtype=torch.complex64),
        "fno_blocks.convs.1.weight.tensor": torch.ones(4, 4, 3, 2),
        "fno_blocks.convs.2.weight.tensor": torch.ones(4, 4, 3, 2, dtype=torch.complex64),
        "fno_blocks.convs.1000000000.bias": torch.ones(4),
        "lifting.fcs.0.weight": torch.ones(4),
        "projection.fcs.1.weight": torch.ones(()),
        "fno_blocks.channel_mlp.0.fcs.0.weight": torch.ones(0),
        "fno_blocks": torch.ones(3),
        "fno_blocks.convs.": torch.ones(3),
    }.items():
        torch.save(base | {name: tensor}, tmp_path / "a.pt")
        assert_refused(tmp_path / "a.pt", "neuraloperator")
    torch.save(base, tmp_path / "a.pt")
    for value in ("x", [], [1], ["a", "b"], 10**12, None):
        assert_refused(tmp_path / "a.pt", "neuraloperator", n_modes=value)


def test_files_without_tensors_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError):
            import_weights(path, "fourcastnet")
    for content in (
        b"",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"\x80\x02}q\x00.",
        b"x" * 1000,
        bytes(10_240),
    ):
        (tmp_path / "a.pt").write_bytes(content)
        for format in ("fourcastnet", "neuraloperator", "physicsnemo"):
            assert_refused(tmp_path / "a.pt", format)
    for values in ({"model_state": 3}, {"model_state": [torch.ones(1)]}, {}, {3: 4}, [torch.ones(1)]):
        torch.save(values, tmp_path / "a.pt")
        assert_refused(tmp_path / "a.pt", "fourcastnet")


# Safetensors files.


def tensor_file(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(shape=(2,), dtype="F32", offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "data"),
    [
        ([], b""),
        (b"null", b""),
        (b"{", b""),
        (b"[" * 50_000, b""),
        (b'{"a": 1, "a": 2}', b""),
        (b"\xff\xff", b""),
        ({"a": None}, b""),
        ({"a": []}, b""),
        ({"a": {}}, b""),
        ({"a": entry(dtype="PICKLE")}, bytes(8)),
        ({"a": entry(dtype=["F32"])}, bytes(8)),
        ({"a": entry(shape=(3,))}, bytes(8)),
        ({"a": entry(shape=(2.0,))}, bytes(8)),
        ({"a": entry(shape=(-2,))}, bytes(8)),
        ({"a": entry(shape=(True, 2))}, bytes(8)),
        ({"a": entry(shape=(2**62, 2**62))}, bytes(8)),
        ({"a": entry(shape=[1] * 100 + [2])}, bytes(8)),
        ({"a": entry(offsets=(8, 0))}, bytes(8)),
        ({"a": entry(offsets=(0, 2**63))}, bytes(8)),
        ({"a": entry(offsets=(0,))}, bytes(8)),
        ({"a": entry(), "b": entry()}, bytes(8)),  # both on the same bytes
        ({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),  # a hole between them
        ({"a": entry()}, bytes(9)),
        ({"a": entry()}, bytes(7)),
        ({"a": entry() | {"more": 1}}, bytes(8)),
    ],
)
def test_damaged_headers_are_refused(tmp_path, header, data):
    with resource_limits(), pytest.raises(WeightsError, match="damaged"):
        read_header(tensor_file(tmp_path / "a", header, data))


def test_truncated_and_overlong_headers_are_refused(tmp_path):
    save_tensors({"a": torch.ones(3), "b": torch.zeros(0)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    assert {name: t.shape for name, t in read_header(tmp_path / "whole").items()} == {"a": (3,), "b": (0,)}
    assert torch.equal(read_file(tmp_path / "whole", read_header(tmp_path / "whole"))["a"], torch.ones(3))
    for size in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(WeightsError, match="damaged"):
            read_header(tmp_path / "cut")
    for length in (2**63, 2**64 - 1, 0, 1, 2**30):
        (tmp_path / "cut").write_bytes(struct.pack("<Q", length) + whole[8:])
        with pytest.raises(WeightsError, match="damaged"):
            read_header(tmp_path / "cut")
    with open(tmp_path / "sparse", "wb") as file:
        file.write(struct.pack("<Q", 2**31))
        file.truncate(2**33)
    with resource_limits(), pytest.raises(WeightsError, match="damaged"):
        read_header(tmp_path / "sparse")


def test_tensors_larger_than_the_memory_are_refused(tmp_path):
    check_memory(tmp_path, 2**20)
    with pytest.raises(ValueError, match="more than the memory of this machine"):
        check_memory(tmp_path, 2**50)


def test_pipes_devices_and_folders_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "link", tmp_path):
        with pytest.raises(ValueError, match="is not a regular file"):
            open_regular(path)
        for read in (read_header, load_state, read_lines):
            with pytest.raises(ValueError, match="not a regular file"):
                read(path)
    (tmp_path / "file").write_bytes(bytes(100))
    assert len(read_regular(tmp_path / "file", 100)) == 100
    with pytest.raises(ValueError, match="the allowed 99"):
        read_regular(tmp_path / "file", 99)


def test_json_is_limited_in_size_and_depth():
    assert parse_json(b'{"a": [1, 2.5, null]}', "x") == {"a": [1, 2.5, None]}
    for content, match in (
        (b"[" * 10**6, "nested too deeply"),
        (b'{"a": {"b": 1, "b": 2}}', "duplicate key 'b'"),
        (b"[" + b"0," * 20_001 + b"0]", "20002 entries"),
        (b"[" + b"[[],[],[],[],[],[],[],[],[],[],[]]," * 19_000 + b"0]", "in total"),
        (b"9" * 5000, "damaged"),
        ("ü".encode("latin-1"), "not text in UTF-8"),
        (b"\xef\xbb\xbf{}", "damaged"),
    ):
        with resource_limits(), pytest.raises(ValueError, match=match) as error:
            parse_json(content, "x")
        assert len(str(error.value)) < 300
    with pytest.raises(ValueError, match="4 entries"):
        parse_json(b"[1, 2, 3, 4]", "x", longest=3)


def test_weights_beyond_single_precision_are_not_finite():
    model = torch.nn.Linear(1, 1)
    with pytest.raises(WeightsError, match="not finite: weight"):
        load_weights(
            model, {"weight": torch.full((1, 1), 1e39, dtype=torch.float64), "bias": torch.zeros(1)}, "x"
        )


# Training states.


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save_state(tmp_path / "state", {"model": {"a": torch.ones(2)}}, {"step": 1, "fingerprint": "x"})
        save_tensors({"a": torch.ones(2)}, tmp_path / "tensors")
        TrainingLog(tmp_path / "log.jsonl", 0)
        (tmp_path / "other").write_text("")
        modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert len(modes) == 4 and len(set(modes.values())) == 1


def test_links_planted_at_temporary_names_are_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("state", "log.jsonl"):
        (tmp_path / f".{name}.tmp").symlink_to(victim)
    save_state(tmp_path / "state", {"model": {"a": torch.ones(2)}}, {"step": 1, "fingerprint": "x"})
    TrainingLog(tmp_path / "log.jsonl", 0)
    (tmp_path / "weights").symlink_to(victim)
    with pytest.raises(FileExistsError):
        save_tensors({"a": torch.ones(2)}, tmp_path / "weights")
    assert victim.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"victim", "state", "log.jsonl", "weights"}


def test_leftovers_of_a_killed_run_are_removed(tmp_path):
    (tmp_path / ".state.tmp").mkdir()
    (tmp_path / ".state.tmp" / "state").write_bytes(bytes(100))
    save_state(tmp_path / "state", {"model": {"a": torch.ones(2)}}, {"step": 1, "fingerprint": "x"})
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_damaged_training_states_are_refused(tmp_path):
    path, meta = tmp_path / "state", {"step": 3, "fingerprint": "x"}
    save_state(path, {"model": {"a": torch.ones(2)}}, meta)
    groups, read = load_state(path)
    assert read["step"] == 3 and torch.equal(groups["model"]["a"], torch.ones(2))
    with pytest.raises(ValueError, match=r"is not a training state .*has no done"):
        read["done"]
    whole = path.read_bytes()
    for content in (
        whole[:-1],
        whole[:50],
        b"",
        whole[8:],
        whole + b"x",
        whole.replace(b"model:a", b"model_a"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"is not a training state .*; remove it to start over"):
            load_state(path)
    for key, value in (
        ("step", "3"),
        ("step", -1),
        ("step", None),
        ("step", True),
        ("step", 1e30),
        ("fingerprint", 3),
        ("best_score", "x"),
        ("best_epoch", []),
        ("done", 1.5),
        ("totals", []),
        ("totals", {"residual": 1, "held_out": None}),
    ):
        save_state(path, {"model": {"a": torch.ones(2)}}, meta | {key: value})
        with pytest.raises(ValueError, match=f"is not a training state .its {key} is"):
            load_state(path)
    for content in ('"a"', "[]", "{", "[" * 10_000):
        save_tensors({"model:a": torch.ones(2)}, tmp_path / "other", None)
        header, data = json.loads((tmp_path / "other").read_bytes()[8:-8]), bytes(8)
        (tmp_path / "other").unlink()
        tensor_file(path, {"__metadata__": {"meta": content}, **header}, data)
        with pytest.raises(ValueError, match="is not a training state"):
            load_state(path)
        tensor_file(path, header, data)
        with pytest.raises(ValueError, match="is not a training state"):
            load_state(path)


def test_optimizer_moments_of_other_parameters_are_refused():
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(3))])
    whole = {
        f"{i}.{name}": torch.ones(n) for i, n in ((0, 2), (1, 3)) for name in ("exp_avg", "exp_avg_sq")
    } | {f"{i}.step": torch.ones(()) for i in (0, 1)}
    restore_optimizer(optimizer, whole)
    for wrong in (
        whole | {"7.exp_avg": torch.ones(2)},
        whole | {"x": torch.ones(2)},
        whole | {"0.exp_avg": torch.ones(5)},
    ):
        with pytest.raises(ValueError, match="fit no parameter"):
            restore_optimizer(optimizer, wrong)
    for name in ("0.step", "1.exp_avg"):
        with pytest.raises(ValueError, match="not those of all parameters"):
            restore_optimizer(optimizer, {key: t for key, t in whole.items() if key != name})


def test_damaged_logs_are_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
    TrainingLog(path, 1)
    assert path.read_text() == '{"step": 1}\n'
    for line in ("{}", "[]", "3", "null", '{"step": "x"}', "{" * 5000, "\xff", "[" * 3000, '{"step": 1'):
        path.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b'\n{"step": 2}\n')
        with pytest.raises(ValueError, match=r"log\.jsonl is damaged in line 2"):
            TrainingLog(path, 1)
        assert path.read_bytes().startswith(b'{"step": 1}\n' + line.encode("latin-1"))


def test_tensors_without_values_are_refused(tmp_path):
    torch.save({"head.weight": torch.empty(3, 4, device="meta")}, tmp_path / "a.pt")
    for format in ("neuraloperator", "physicsnemo"):
        with pytest.raises(WeightsError, match=r"head.weight has a shape but no values"):
            import_weights(tmp_path / "a.pt", format)
