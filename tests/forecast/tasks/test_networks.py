"""Bare networks: import, export and error messages."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from fourcaster import forecast
from fourcaster.datasets.store.outputs import is_output
from fourcaster.fno import AFNO, FNO, SFNO, TFNO
from fourcaster.fno.pretrained.checks import ModelDescription
from fourcaster.forecast import interop as networks
from fourcaster.forecast.cli.main import app

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch's exporters
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


def command(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def save(monkeypatch, path, kind, model, arguments):
    """Write a checkpoint of a network that has no source file."""
    monkeypatch.setattr(
        networks, "read_weights", lambda *_, **__: ModelDescription(kind, arguments, model.state_dict())
    )
    (path.parent / "file").write_bytes(b"")
    networks.import_network(path.parent / "file", "physicsnemo", path)


@pytest.mark.parametrize(
    ("args", "name"),
    [
        (["--format", "fourcastnet", "--inp-shape", "32,64"], "fourcastnet_tiny.ckpt"),
        (["--format", "fourcastnet", "inp_shape=[32,64]"], "fourcastnet_tiny.ckpt"),
        (["--format", "physicsnemo", "--inp_shape=32,64", "num_blocks=4"], "physicsnemo_afno_tiny.pt"),
        (["--format", "neuraloperator"], "neuralop_fno_tiny.pt"),
    ],
)
def test_imported_network_reproduces_the_original(real_data, tmp_path, args, name):
    source = real_data / "reference" / name
    result = command("import", source, *args, "-o", tmp_path / "net", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kind"] == "network"
    reference = np.load(source.with_name(f"{name.split('.')[0]}_io.npz"))
    y, expected = (
        forecast.load_network(tmp_path / "net")(torch.from_numpy(reference["x"])),
        torch.from_numpy(reference["y"]),
    )
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()
    repeated = command("import", source, *args, "-o", tmp_path / "net")
    assert repeated.exit_code == 2 and "exists; overwrite it" in repeated.output
    assert command("import", source, *args, "-o", tmp_path / "net", "--overwrite").exit_code == 0
    assert "model: " in command("inspect", tmp_path / "net").output


def test_import_arguments_are_read_from_a_file(real_data, tmp_path):
    (tmp_path / "arguments.yaml").write_text("inp_shape: [32, 64]\n")
    source = real_data / "reference" / "fourcastnet_tiny.ckpt"
    args = [
        "import",
        source,
        "--format",
        "fourcastnet",
        "-o",
        tmp_path / "net",
        "--config",
        tmp_path / "arguments.yaml",
    ]
    assert command(*args).exit_code == 0
    for text in ("just words", "a: [1"):
        (tmp_path / "arguments.yaml").write_text(text)
        assert command(*args, "--overwrite").exit_code == 2
    assert (
        command("import", source, "--format", "fourcastnet", "-o", tmp_path / "other", "inp_shape").exit_code
        == 2
    )


def test_failed_import_leaves_no_files(real_data, tmp_path):
    source = real_data / "reference" / "fourcastnet_tiny.ckpt"
    result = command("import", source, "--format", "fourcastnet", "-o", tmp_path / "net")
    assert (
        result.exit_code == 2
        and "pass inp_shape" in result.output
        and len(result.output.strip().splitlines()) == 1
    )
    assert list(tmp_path.iterdir()) == []


def test_bare_network_cannot_forecast_and_damage_is_detected(monkeypatch, tmp_path):
    model = FNO((4, 4), 1, 1, hidden_channels=4, n_layers=1)
    arguments = {"n_modes": (4, 4), "in_channels": 1, "out_channels": 1, "hidden_channels": 4, "n_layers": 1}
    save(monkeypatch, tmp_path / "net", "fno", model, arguments)
    x = torch.randn(1, 1, 9, 9)
    assert torch.equal(forecast.load_network(tmp_path / "net")(x), model(x))
    with pytest.raises(ValueError, match="cannot make a forecast"):
        forecast.load(tmp_path / "net")
    with open(tmp_path / "net" / "weights.safetensors", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    with pytest.raises(ValueError, match="is damaged"):
        forecast.load_network(tmp_path / "net")


def test_exported_model_equals_the_original(tiny_checkpoint, tmp_path):
    result = command(
        "export", tiny_checkpoint, "--format", "torch-export", "-o", tmp_path / "net.pt2", "--json"
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["free"] == ["batch"] and report["difference"] < 1e-5
    assert is_output(tmp_path / "net.pt2", "torch-export program")
    exported = torch.export.load(tmp_path / "net.pt2").module()
    network = forecast.load_network(tiny_checkpoint).eval()
    for module in network.modules():
        module.trained_sizes = set()
    for shape in ((3, 7, 12), (1, 7, 12)):  # this model pads its domain, so its grid is fixed
        x = torch.randn(shape[0], report["input"][1], *shape[1:])
        assert torch.allclose(exported(x), network(x), atol=1e-5)


CASES = {
    "tfno": (
        TFNO,
        {
            "n_modes": (4, 4),
            "in_channels": 2,
            "out_channels": 1,
            "hidden_channels": 4,
            "n_layers": 2,
            "rank": 0.4,
        },
        (9, 10),
        True,
    ),
    "fno": (
        FNO,
        {"n_modes": (4,), "in_channels": 2, "out_channels": 1, "hidden_channels": 4, "n_layers": 2},
        (11,),
        True,
    ),
    "padded": (
        FNO,
        {
            "n_modes": (4, 4),
            "in_channels": 2,
            "out_channels": 1,
            "hidden_channels": 4,
            "n_layers": 2,
            "local": True,
            "positions": True,
            "domain_padding": (0.25, 0.0),
            "reference_size": (9, 8),
        },
        (14, 10),
        False,
    ),
    "cosine": (
        FNO,
        {
            "n_modes": (4, 4),
            "in_channels": 2,
            "out_channels": 1,
            "hidden_channels": 4,
            "n_layers": 2,
            "series": "cosine",
            "local": "stencil",
            "reference_size": (7, 10),
            "input_injection": True,
            "outer_activation": False,
        },
        (13, 10),
        False,
    ),
    "sfno": (
        SFNO,
        {"lmax": 4, "in_channels": 2, "out_channels": 1, "hidden_channels": 4, "n_layers": 1},
        (9, 16),
        False,
    ),
    "afno": (
        AFNO,
        {
            "inp_shape": (8, 12),
            "patch_size": (4, 4),
            "in_channels": 2,
            "out_channels": 1,
            "embed_dim": 8,
            "depth": 1,
            "num_blocks": 2,
        },
        (8, 12),
        False,
    ),
}


@pytest.mark.parametrize("kind", CASES)
def test_exported_network_equals_the_original(monkeypatch, tmp_path, kind):
    network_class, arguments, size, dynamic_grid = CASES[kind]
    model = network_class(**arguments).eval()
    save(monkeypatch, tmp_path / "net", "fno" if kind in ("padded", "cosine") else kind, model, arguments)
    result = networks.export(tmp_path / "net", "torch-export", tmp_path / "net.pt2", size=size)
    assert result.dynamic_dimensions == (["batch", "grid"] if dynamic_grid else ["batch"])
    assert is_output(tmp_path / "net.pt2", "torch-export program")
    exported = torch.export.load(tmp_path / "net.pt2").module()
    for batch, shape in [
        (1, size),
        (4, size),
        *([(2, tuple(2 * n + 1 for n in size))] if dynamic_grid else []),
    ]:
        x = torch.randn(batch, 2, *shape)
        assert torch.allclose(exported(x), model(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["fno", "tfno", "padded", "cosine"])
def test_onnx_export_equals_the_original(monkeypatch, tmp_path, kind):
    onnxruntime = pytest.importorskip("onnxruntime")
    network_class, arguments, size, _ = CASES[kind]
    model = network_class(**arguments).eval()
    save(monkeypatch, tmp_path / "net", "fno" if kind in ("padded", "cosine") else kind, model, arguments)
    assert networks.export(tmp_path / "net", "onnx", tmp_path / "net.onnx", size=size).difference < 1e-5
    assert is_output(tmp_path / "net.onnx", "onnx model")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        x = torch.randn(batch, 2, *size)
        assert torch.allclose(torch.from_numpy(session.run(None, {"x": x.numpy()})[0]), model(x), atol=1e-5)


def test_invalid_exports_are_rejected(monkeypatch, tmp_path, tiny_checkpoint):
    _, arguments, _, _ = CASES["fno"]
    save(monkeypatch, tmp_path / "net", "fno", FNO(**arguments), arguments)
    for args, message in (
        (["--format", "torch-export"], "does not define a grid; pass its 1 sizes"),
        (["--format", "jax", "--size", "16"], "unknown format 'jax'"),
        (["--format", "onnx", "--size", "a"], "--size a is not understood"),
        (["--format", "onnx", "--size", "2"], "cannot resolve"),
    ):
        result = command("export", tmp_path / "net", *args, "-o", tmp_path / "out")
        assert result.exit_code == 2 and message in result.output, result.output
        assert not (tmp_path / "out").exists()
    _, arguments, size, _ = CASES["sfno"]
    save(monkeypatch, tmp_path / "sfno", "sfno", SFNO(**arguments), arguments)
    with pytest.raises(ValueError, match="not for SFNO; use torch-export"):
        networks.export(tmp_path / "sfno", "onnx", tmp_path / "out", size=size)
    (tmp_path / "out").write_text("here")
    with pytest.raises(FileExistsError, match="exists"):
        networks.export(tiny_checkpoint, "onnx", tmp_path / "out")
    monkeypatch.setattr(networks, "_torch_export", lambda network, x, fourier: (b"", torch.zeros(())))
    with pytest.raises(ValueError, match="differs from the original"):
        networks.export(tiny_checkpoint, "torch-export", tmp_path / "other")
    assert not (tmp_path / "other").exists()
