"""Published weights: outputs equal those of the original packages, and unsuitable files are refused."""

import json
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from fourcaster.fno import AFNO, FNO, WeightsError, import_weights

FILES = {
    "fourcastnet": ("fourcastnet_tiny.ckpt", {"inp_shape": [32, 64]}),
    "physicsnemo": (
        "physicsnemo_afno_tiny.pt",
        {"inp_shape": [32, 64], "num_blocks": 4, "patch_size": [8, 8]},
    ),
    "neuraloperator": ("neuralop_fno_tiny.pt", {"n_modes": [12, 12], "hidden_channels": 16}),
}
AFNO_ARGUMENTS = {
    "patch_size": (4, 4),
    "in_channels": 2,
    "out_channels": 3,
    "embed_dim": 8,
    "depth": 2,
    "num_blocks": 2,
    "mlp_ratio": 2.0,
}


@pytest.mark.parametrize("format", FILES)
def test_imported_models_reproduce_reference_outputs(real_data, format):
    name, arguments = FILES[format]
    model = import_weights(real_data / "reference" / name, format, **arguments)
    reference = np.load(real_data / "reference" / f"{name.split('.')[0]}_io.npz")
    y, expected = model(torch.from_numpy(reference["x"])), torch.from_numpy(reference["y"])
    assert not model.training
    assert (y - expected).abs().max() < 1e-5 * expected.abs().max()


def neuraloperator_state(
    d=2, modes=(6, 4), width=5, layers=2, inner=3, outer=4, lifting=7, projection=9, mlp=2
):
    """Return random weights under the names that neuraloperator's FNO saves."""
    state = {
        "lifting.fcs.0.weight": torch.randn(lifting, inner + d, 1),
        "lifting.fcs.0.bias": torch.randn(lifting),
    }
    state |= {
        "lifting.fcs.1.weight": torch.randn(width, lifting, 1),
        "lifting.fcs.1.bias": torch.randn(width),
    }
    state |= {
        "projection.fcs.0.weight": torch.randn(projection, width, 1),
        "projection.fcs.0.bias": torch.randn(projection),
    }
    state |= {
        "projection.fcs.1.weight": torch.randn(outer, projection, 1),
        "projection.fcs.1.bias": torch.randn(outer),
    }
    for i in range(layers):
        state[f"fno_blocks.convs.{i}.weight.tensor"] = torch.randn(
            width, width, *modes, dtype=torch.complex64
        )
        state[f"fno_blocks.convs.{i}.bias"] = torch.randn(width, *[1] * d)
        state[f"fno_blocks.fno_skips.{i}.conv.weight"] = torch.randn(width, width, 1)
        state[f"fno_blocks.channel_mlp.{i}.fcs.0.weight"] = torch.randn(mlp, width, 1)
        state[f"fno_blocks.channel_mlp.{i}.fcs.0.bias"] = torch.randn(mlp)
        state[f"fno_blocks.channel_mlp.{i}.fcs.1.weight"] = torch.randn(width, mlp, 1)
        state[f"fno_blocks.channel_mlp.{i}.fcs.1.bias"] = torch.randn(width)
        state[f"fno_blocks.channel_mlp_skips.{i}.weight"] = torch.randn(1, width, *[1] * d)
    return state


def neuraloperator_forward(state, x):
    """Evaluate neuraloperator's FNO with default options from its saved weights."""
    d, gelu = x.ndim - 2, torch.nn.functional.gelu

    def dense(x, name):
        y = torch.einsum("oi,bi...->bo...", state[f"{name}.weight"][..., 0], x)
        return y + state[f"{name}.bias"].reshape(-1, *[1] * d) if f"{name}.bias" in state else y

    def pointwise(x, name):
        return dense(gelu(dense(x, f"{name}.fcs.0")), f"{name}.fcs.1")

    size, dims = x.shape[2:], tuple(range(2, d + 2))
    coordinates = torch.meshgrid(*(torch.linspace(0, 1, n + 1)[:-1] for n in size), indexing="ij")
    x = pointwise(torch.cat([x, torch.stack(coordinates).expand(len(x), *[-1] * (d + 1))], dim=1), "lifting")
    layers = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("fno_blocks.convs"))
    for i in range(layers):
        weight = state[f"fno_blocks.convs.{i}.weight.tensor"]
        z, out = torch.fft.rfftn(x, dim=dims, norm="forward"), torch.zeros(1)
        out = torch.zeros(len(x), weight.shape[1], *z.shape[2:], dtype=z.dtype)
        at = [
            torch.tensor([k % n for k in range(-(m // 2), m - m // 2)])
            for n, m in zip(size[:-1], weight.shape[2:-1], strict=True)
        ]
        at = torch.meshgrid(*at, torch.arange(weight.shape[-1]), indexing="ij")
        out[:, :, *at] = torch.einsum("bi...,io...->bo...", z[:, :, *at], weight)
        h = (
            torch.fft.irfftn(out, s=size, dim=dims, norm="forward")
            + state[f"fno_blocks.convs.{i}.bias"]
            + dense(x, f"fno_blocks.fno_skips.{i}.conv")
        )
        last = i == layers - 1
        y = (
            pointwise(h if last else gelu(h), f"fno_blocks.channel_mlp.{i}")
            + state[f"fno_blocks.channel_mlp_skips.{i}.weight"] * x
        )
        x = y if last else gelu(y)
    return pointwise(x, "projection")


@pytest.mark.parametrize(
    ("size", "state"),
    [
        ((13, 14), {"modes": (6, 4)}),
        ((12, 15), {"modes": (5, 3), "width": 4, "layers": 1, "mlp": 6}),
        ((17,), {"d": 1, "modes": (5,)}),
        ((8, 9, 10), {"d": 3, "modes": (4, 3, 3), "lifting": 10}),
        ((7, 7), {"modes": (3, 1)}),
    ],
)
def test_neuraloperator_models_of_other_sizes_are_loaded(tmp_path, size, state):
    torch.manual_seed(0)
    saved = neuraloperator_state(**state)
    torch.save(saved, tmp_path / "fno.pt")
    model = import_weights(tmp_path / "fno.pt", "neuraloperator")
    x = torch.randn(2, 3, *size)
    expected = neuraloperator_forward(saved, x)
    assert isinstance(model, FNO) and torch.allclose(model(x), expected, atol=1e-4 * expected.abs().max())


def afno_file(path, prefix="", **extra):
    model = AFNO((8, 12), **AFNO_ARGUMENTS).eval()
    torch.save({f"{prefix}{name}": t for name, t in model.state_dict().items()} | extra, path)
    return model


def test_physicsnemo_archives_contain_their_arguments(tmp_path):
    model = afno_file(tmp_path / "model.pt")
    stored = {
        "inp_shape": [8, 12],
        "drop_rate": 0.1,
        "sparsity_threshold": 0.01,
        **{n: list(v) if isinstance(v, tuple) else v for n, v in AFNO_ARGUMENTS.items()},
    }
    description = json.dumps(
        {"__name__": "AFNO", "__module__": "physicsnemo.models.afno.afno", "__args__": stored}
    )
    (tmp_path / "args.json").write_text(description)
    with zipfile.ZipFile(tmp_path / "new.mdlus", "w") as archive:
        archive.write(tmp_path / "model.pt", "model.pt")
        archive.write(tmp_path / "args.json", "args.json")
    with tarfile.open(tmp_path / "old.mdlus", "w") as tar:
        tar.add(tmp_path / "model.pt", "./model.pt")
        tar.add(tmp_path / "args.json", "./args.json")
    x = torch.randn(2, 2, 8, 12)
    for name in ("new.mdlus", "old.mdlus"):
        assert torch.equal(import_weights(tmp_path / name, "physicsnemo")(x), model(x))
    with zipfile.ZipFile(tmp_path / "other.mdlus", "w") as archive:
        archive.write(tmp_path / "model.pt", "model.pt")
        archive.writestr("args.json", description.replace("AFNO", "FNO"))
    with pytest.raises(WeightsError, match="is a FNO; of physicsnemo's models AFNO is supported"):
        import_weights(tmp_path / "other.mdlus", "physicsnemo")


def test_all_mismatched_tensors_are_listed_at_once(tmp_path):
    model = AFNO((8, 12), **AFNO_ARGUMENTS)
    state = model.state_dict()
    state["surplus"] = torch.zeros(1)
    del state["blocks.1.norm1.weight"]
    state["blocks.0.norm2.bias"] = torch.zeros(5)
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(WeightsError) as error:
        import_weights(tmp_path / "model.pt", "physicsnemo", inp_shape=[8, 12])
    for part in (
        "missing blocks.1.norm1.weight",
        "unknown surplus",
        "blocks.0.norm2.bias has shape (5,), expected (8,)",
    ):
        assert part in str(error.value)
    afno_file(tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"pos_embed has shape \(1, 6, 8\), expected \(1, 12, 8\)"):
        import_weights(tmp_path / "model.pt", "physicsnemo", inp_shape=[8, 24])


class _Code:
    def __reduce__(self):
        return print, ("this must not be printed",)


@pytest.mark.parametrize("content", [{"model_state": _Code()}, nn.Linear(1, 1)])
def test_code_in_a_file_is_not_run(tmp_path, content, capsys):
    torch.save(content, tmp_path / "evil.pt")
    for format in FILES:
        with pytest.raises(WeightsError, match=r"would run code in the file; nothing was loaded"):
            import_weights(tmp_path / "evil.pt", format)
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(_Code()))
    with pytest.raises(WeightsError):
        import_weights(tmp_path / "plain.pkl", "physicsnemo")
    assert "this must not" not in capsys.readouterr().out


def test_files_of_another_format_are_refused(tmp_path):
    path = tmp_path / "file.pt"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        import_weights(path, "physicsnemo")
    path.write_bytes(b"no weights at all")
    with pytest.raises(WeightsError, match="cannot be read as saved tensors"):
        import_weights(path, "neuraloperator")
    with pytest.raises(WeightsError, match="unknown format 'makani'"):
        import_weights(path, "makani")
    torch.save([torch.zeros(1)], path)
    with pytest.raises(WeightsError, match="contains a list, not a state dict"):
        import_weights(path, "physicsnemo")
    torch.save({"weights": torch.zeros(1)}, path)
    for format, message in (
        ("fourcastnet", "no 'model_state'"),
        ("physicsnemo", "is not an AFNO"),
        ("neuraloperator", "is not an FNO"),
    ):
        with pytest.raises(WeightsError, match=message):
            import_weights(path, format)
    torch.save({"model_state": {"module.backbone.pos_embed": torch.zeros(1, 2, 3)}}, path)
    with pytest.raises(WeightsError, match=r"patch_embed.proj.weight' is missing"):
        import_weights(path, "fourcastnet")


def test_options_that_are_not_supported_are_named(tmp_path):
    path = tmp_path / "fno.pt"
    saved = neuraloperator_state()
    torch.save(saved, path)
    with pytest.raises(WeightsError, match="positional_embedding=None not supported"):
        import_weights(path, "neuraloperator", positional_embedding=None)
    with pytest.raises(WeightsError, match="hidden_channels is 5, not 6"):
        import_weights(path, "neuraloperator", hidden_channels=6)
    with pytest.raises(WeightsError, match="unknown argument hidden; there are n_modes"):
        import_weights(path, "neuraloperator", hidden=6)
    with pytest.raises(WeightsError, match="no grid embedding"):
        import_weights(path, "neuraloperator", in_channels=5)
    for name, message in (
        ("fno_blocks.norm.0.weight", "a norm"),
        ("fno_blocks.convs.0.weight.core", "Tucker"),
        ("fno_blocks.fno_skips.0.weight", "soft-gating"),
    ):
        torch.save(saved | {name: torch.zeros(1)}, path)
        with pytest.raises(WeightsError, match=message):
            import_weights(path, "neuraloperator")
    torch.save({n: t for n, t in saved.items() if "channel_mlp." not in n}, path)
    with pytest.raises(WeightsError, match="no channel MLP"):
        import_weights(path, "neuraloperator")
    torch.save(
        saved | {"fno_blocks.convs.0.weight.tensor": torch.randn(5, 6, 4, dtype=torch.complex64)}, path
    )
    with pytest.raises(WeightsError, match="separable"):
        import_weights(path, "neuraloperator")
    afno_file(path)
    with pytest.raises(WeightsError, match=r"pass inp_shape=\[H,W\], which has 6 patches of \(4, 4\) points"):
        import_weights(path, "physicsnemo")
    with pytest.raises(WeightsError, match="depth is 2, not 3"):
        import_weights(path, "physicsnemo", inp_shape=[8, 12], depth=3)
    with pytest.raises(WeightsError, match="cannot be built"):
        import_weights(path, "physicsnemo", inp_shape=[2, 12])


def test_thresholds_are_passed_as_arguments(tmp_path):
    model = afno_file(tmp_path / "model.pt")
    x = torch.randn(1, 2, 8, 12)
    other = import_weights(
        tmp_path / "model.pt",
        "physicsnemo",
        inp_shape=(8, 12),
        sparsity_threshold=0.5,
        hard_thresholding_fraction=0.5,
    )
    assert other.blocks[0].filter.sparsity_threshold == 0.5 and not torch.equal(other(x), model(x))
