"""Model registry, construction for a grid, and short representations."""

import sys

import numpy as np
import pytest
import torch
from torch import nn

from fourcaster.fno import AFNO, FNO, SFNO, TFNO
from fourcaster.fno.errors import RegistryError
from fourcaster.fno.grids import Box, LatLon
from fourcaster.fno.models import REGISTRY, Clipping, GridModel, ModelRegistry, build_model, count_layers
from fourcaster.fno.models.ensemble import Ensemble
from fourcaster.fno.models.operators import EvolutionOperator, SolutionScales
from fourcaster.fno.models.pinn import CoordinateNetwork, TimeWindows
from fourcaster.fno.models.stepper import Scales, Stepper

GLOBE = LatLon(np.linspace(90, -90, 19), np.arange(0, 360, 10.0))
REGION = LatLon(np.linspace(20, 60, 9), np.arange(0, 100, 5.0))
PLUGIN = '''
import torch
from fourcaster.fno.models import GridModel


class Pointwise(GridModel):
    """The same linear map at every grid point."""

    def __init__(self, in_channels, out_channels):
        super().__init__(in_channels, dimensions=2)
        self.map = torch.nn.Conv2d(in_channels, out_channels, kernel_size=1)

    @property
    def output_layer(self):
        return self.map

    def forward(self, x):
        self.check(x)
        return self.map(x)


NOT_A_MODEL = 3
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Return a function that installs a package with these entry points."""
    len(REGISTRY)  # lists its entry points before those of the test exist
    (tmp_path / "pointwise_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)

    def install(package, **entries):
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = pointwise_plugin:{value}" for name, value in entries.items())
        (info / "entry_points.txt").write_text(f"[fourcaster.models]\n{lines}\n")

    yield install
    sys.modules.pop("pointwise_plugin", None)


def test_a_model_is_added_by_one_class_and_one_entry_point(plugin):
    plugin("pointwise", pointwise="Pointwise")
    registry = ModelRegistry({"fno": FNO, "tfno": TFNO, "sfno": SFNO, "afno": AFNO})
    assert {"fno", "tfno", "sfno", "afno", "pointwise"} <= set(registry)
    assert "pointwise_plugin" not in sys.modules  # listed, not imported
    model, clipped = registry["pointwise"].for_grid(REGION, 3, 2)
    assert clipped == [] and model(torch.randn(4, 3, 9, 20)).abs().max() == 0
    assert repr(model) == "Pointwise(8 parameters)"


def test_duplicate_names_are_refused(plugin):
    plugin("first", fno="Pointwise")
    with pytest.raises(RegistryError, match="'fno', which is taken"):
        ModelRegistry({"fno": FNO})["fno"]
    registry = ModelRegistry({"sfno": SFNO})
    plugin("second", fno="Pointwise")
    with pytest.raises(RegistryError, match="'fno', which is taken"):
        list(registry)
    with pytest.raises(RegistryError, match="'tfno' is taken"):
        REGISTRY["tfno"] = FNO


def test_only_models_are_registered(plugin):
    plugin("wrong", wrong="NOT_A_MODEL")
    registry = ModelRegistry({})
    with pytest.raises(RegistryError, match=r"not a subclass of torch.nn.Module"):
        registry["wrong"]
    with pytest.raises(RegistryError, match=r"not a subclass of torch.nn.Module"):
        registry["number"] = 3  # type: ignore[assignment]
    registry["fno"] = FNO
    registry["fno"] = FNO  # a cell that is executed again
    assert registry["fno"] is FNO and "fno" in registry
    del registry["fno"]
    with pytest.raises(KeyError):
        registry["fno"]


def test_any_module_can_be_a_model():
    class Gated(nn.Module):
        def __init__(self, in_channels, out_channels, width=4):
            super().__init__()
            self.map = nn.Conv2d(in_channels, out_channels, width)

    REGISTRY["gated"] = Gated
    try:
        model, clipped = build_model("gated", REGION, in_channels=3, out_channels=2, width=5)
    finally:
        del REGISTRY["gated"]
    assert model.map.weight.shape == (2, 3, 5, 5) and clipped == []


@pytest.mark.parametrize(
    ("kind", "grid", "options", "clipped"),
    [
        ("fno", REGION, {"n_modes": (12, 8)}, [Clipping("n_modes", (12, 8), (9, 8))]),
        ("tfno", REGION, {"n_modes": (4, 4)}, []),
        (
            "fno",
            REGION,
            {"n_modes": (6, 30), "activation": "alias_free", "domain_padding": 0.2},
            [Clipping("n_modes", (6, 30), (5, 10))],
        ),
        ("sfno", GLOBE, {"lmax": 16}, [Clipping("lmax", (16,), (10,))]),
        (
            "afno",
            REGION,
            {"patch_size": (12, 4), "embed_dim": 8, "depth": 1, "num_blocks": 2},
            [Clipping("patch_size", (12, 4), (9, 4))],
        ),
    ],
)
def test_a_model_fits_its_grid_and_starts_at_zero(kind, grid, options, clipped):
    if kind != "afno":
        options = options | {"hidden_channels": 4, "n_layers": 1}
    model, reduced = build_model(kind, grid, in_channels=2, out_channels=3, **options)
    assert isinstance(model, GridModel) and reduced == clipped
    y = model(torch.randn(2, 2, *grid.shape))
    assert y.shape == (2, 3, *grid.shape) and not y.any()
    assert count_layers(kind, options) == len(model.blocks)


def test_margins_are_added_along_axes_that_are_not_periodic():
    options = {"n_modes": (4, 4), "hidden_channels": 4, "n_layers": 1, "domain_padding": 0.25}
    channel = Box(("y", "x"), (9, 16), (1.0, 2.0), (False, True))
    assert FNO.for_grid(channel, 1, 1, **options)[0].domain_padding == (0.25, 0.0)
    assert FNO.for_grid(REGION, 1, 1, **options)[0].domain_padding == (0.25, 0.25)
    for margins in ((0.25, 0.5), [0.25, 0.5]):
        each = options | {"domain_padding": margins}
        assert FNO.for_grid(REGION, 1, 1, **each)[0].domain_padding == (0.25, 0.5)
        model, _ = build_model("fno", channel, in_channels=1, out_channels=1, **each)
        assert model.domain_padding == (0.25, 0.0)
        assert model(torch.zeros(1, 1, 9, 16)).shape == (1, 1, 9, 16)
    with pytest.raises(ValueError, match="domain_padding has 3 entries, the grid has 2 dimensions"):
        FNO.for_grid(channel, 1, 1, **options | {"domain_padding": (0.1, 0.2, 0.3)})
    with pytest.raises(ValueError, match="covers the sphere"):
        SFNO.for_grid(channel, 1, 1, lmax=4)


def test_printed_models_are_short_summaries():
    torch.manual_seed(0)
    fno = FNO((4, 4), 6, 1, hidden_channels=4, n_layers=2)
    assert repr(fno).startswith("FNO(6 -> 1 channels, n_modes=(4, 4), hidden_channels=4, n_layers=2, ")
    count = sum(p.numel() for p in fno.parameters())
    assert repr(fno).endswith(f"{count:,} parameters)") and "\n" not in repr(fno)
    assert "lmax=4, grid=legendre-gauss" in repr(SFNO(4, 1, 1, hidden_channels=4, grid="legendre-gauss"))
    afno = AFNO((8, 8), (4, 2), embed_dim=8, depth=1, num_blocks=2)
    assert "inp_shape=(8, 8), patch_size=(4, 2), embed_dim=8, depth=1" in repr(afno)
    one = torch.ones(1)
    stepper = Stepper(
        Ensemble([fno, fno]),
        Scales(0 * one, one, one, one),
        torch.zeros(0, 8, 8),
        mask=torch.ones(1, 8, 8) > 0,
    )
    lines = repr(stepper).splitlines()
    assert lines[0].startswith("Stepper(1 channels, 8 x 8 points, window=2, 0 static, ")
    assert lines[1].startswith("  Ensemble(2 networks, ") and lines[2].startswith("    FNO(6 -> 1 channels")
    operator = EvolutionOperator(
        FNO((4,), 2, 3, hidden_channels=4), SolutionScales([1.0], [], [], [0.0], [1.0]), window=0.5, nodes=3,
        parameters=("viscosity",),
    )  # fmt: skip
    assert repr(operator).startswith(
        "EvolutionOperator(window=0.5, nodes=3, periodic grid, coefficients viscosity, "
    )
    network = CoordinateNetwork({"t": 0.0, "x": 0.0}, {"t": 1.0, "x": 1.0}, ("x",), width=5, depth=2)
    assert repr(network).startswith("CoordinateNetwork((t, x) -> u, 3 features, width=5, depth=2, ")
    assert repr(TimeWindows([network])).splitlines()[1].startswith("  CoordinateNetwork(")
