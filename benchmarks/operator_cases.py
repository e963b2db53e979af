"""Comparisons of our operators with those of peer libraries: each pair of modules with its input."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fourcaster.fno import AFNO, AFNO2D, FNO, InverseRealSHT, RealSHT, SpectralConv

SPECTRAL = [  # batch, channels, H, W, modes; goals forward, forward + backward
    ((8, 32, 64, 64, 12), (1.6, 2.5)),
    ((4, 64, 32, 64, 15), (3.0, 3.5)),
    ((2, 64, 121, 240, 24), (4.0, 4.0)),
    ((1, 64, 181, 360, 32), (5.0, 5.0)),
    ((1, 32, 721, 1440, 32), (5.0, 6.0)),
]
MODELS = [((4, 32, 64), (None, 2.4)), ((2, 120, 240), (None, 1.6))]
MIXERS = [((4, 16, 32, 256), (None, 2.2)), ((1, 45, 90, 512), (None, 2.2)), ((1, 90, 180, 768), (None, 2.2))]
SPHERES = [
    ((16, 64, 128, 64), "legendre-gauss"),
    ((64, 121, 240, 61), "equiangular"),
    ((32, 180, 360, 180), "legendre-gauss"),
    ((4, 361, 720, 181), "equiangular"),
]


class _StubClass(type):
    """Metaclass of classes whose every attribute is its own name."""

    def __getattr__(cls, attribute: str) -> str:
        if attribute.startswith("_"):
            raise AttributeError(attribute)
        return attribute


class _Torchvision(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import hook that replaces torchvision by empty modules where it is not installed.

    physicsnemo imports torchvision, but the layers compared here do not use it.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        return (
            importlib.machinery.ModuleSpec(name, self, is_package=True)
            if name.split(".", maxsplit=1)[0] == "torchvision"
            else None
        )

    def create_module(self, spec: Any) -> types.ModuleType:
        class StubModule(types.ModuleType):
            def __getattr__(self, attribute: str) -> Any:
                if attribute.startswith("__"):
                    raise AttributeError(attribute)
                return _StubClass(attribute, (nn.Module,), {})

        return StubModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def peer(name: str) -> Any:
    """Import a peer library and return it, or None if that fails."""
    try:
        if name.startswith("physicsnemo") and importlib.util.find_spec("torchvision") is None:
            sys.meta_path.append(_Torchvision())
        return importlib.import_module(name)
    except Exception as error:  # noqa: BLE001  the import of a peer may raise anything
        print(f"skipping {name}: {type(error).__name__} {str(error)[:120]}")
        return None


class Case:
    """A comparison of one of our modules with a peer's, each with its input and the gradient of its output.

    Args:
        name: name in the table.
        against: name of the peer.
        ours: our module.
        theirs: the peer's module.
        x: input of our module.
        y: input of the peer's module, of the same shape, in the memory format of the peer.
        goals: ratios to reach, forward and forward + backward; None without a goal.
    """

    def __init__(
        self,
        name: str,
        against: str,
        ours: nn.Module,
        theirs: nn.Module,
        x: Tensor,
        y: Tensor,
        goals: tuple[float | None, float | None],
    ) -> None:
        self.name = name
        self.against = against
        self.goals = goals
        self.sides = {"ours": (ours, x), "theirs": (theirs, y)}
        self.gradient = {
            side: torch.randn_like(module(value)) for side, (module, value) in self.sides.items()
        }

    def run(self, side: str, *, backward: bool) -> None:
        """Run one side, forward only or forward and backward."""
        module, x = self.sides[side]
        if not backward:
            with torch.no_grad():
                module(x)
            return
        x.grad = None
        for p in module.parameters():
            p.grad = None
        module(x).backward(self.gradient[side])

    def saved_bytes(self, side: str) -> int:
        """Return the bytes saved for the backward pass, without weights and input."""
        module, x = self.sides[side]
        excluded = {p.untyped_storage().data_ptr() for p in module.parameters()}
        excluded.add(x.untyped_storage().data_ptr())
        saved: dict[int, int] = {}

        def pack(t: Tensor) -> Tensor:
            # Tensors without gradient are constants, which are stored once for all calls.
            if t.requires_grad and t.untyped_storage().data_ptr() not in excluded:
                saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = module(x)
        del y
        return sum(saved.values())


def cases(device: str) -> "list[tuple[str, Callable[[], Case | None]]]":
    """Return the name of each comparison and a function that sets it up."""
    neuralop = peer("neuralop")
    harmonics = peer("torch_harmonics")
    nemo = peer("physicsnemo.models.afno")
    comparisons: list[tuple[str, Callable[[], Case | None]]] = []

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    def spectral(b: int, c: int, h: int, w: int, m: int, goals: Any) -> Case:
        ours = SpectralConv(c, c, (m, m), bias=False).to(device)
        theirs = neuralop.layers.spectral_convolution.SpectralConv(c, c, (m, m), bias=False).to(device)
        x = random(b, c, h, w).to(memory_format=torch.channels_last)
        y = random(b, c, h, w)
        return Case(
            f"SpectralConv {b},{c},{h},{w},{m}",
            "neuraloperator",
            ours,
            theirs,
            x.requires_grad_(),
            y.requires_grad_(),
            goals,
        )

    def model(b: int, h: int, w: int, goals: Any) -> Case:
        ours = FNO((16, 16), 3, 3, hidden_channels=64, n_layers=4, positions=True, last_activation=False).to(
            device
        )
        theirs = neuralop.models.FNO(
            n_modes=(16, 16), in_channels=3, out_channels=3, hidden_channels=64, n_layers=4
        ).to(device)
        counts = [
            sum(p.numel() * (2 if p.is_complex() else 1) for p in m.parameters()) for m in (ours, theirs)
        ]
        assert counts[0] == counts[1]
        x = random(b, 3, h, w)
        return Case(
            f"FNO {b} x {h} x {w}",
            "neuraloperator",
            ours,
            theirs,
            x.to(memory_format=torch.channels_last),
            x.clone(),
            goals,
        )

    def mixer(shape: tuple[int, ...], goals: Any) -> Case:
        ours = AFNO2D(shape[-1]).to(device)
        theirs = nemo.afno.AFNO2DLayer(shape[-1]).to(device)
        theirs.load_state_dict(ours.state_dict())
        x = random(*shape)
        assert (ours(x) - theirs(x)).abs().max() < 1e-4
        return Case(
            f"AFNO layer {','.join(map(str, shape))}",
            "physicsnemo (FourCastNet's layer)",
            ours,
            theirs,
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            goals,
        )

    def blocks(goals: Any) -> Case:
        ours = AFNO(
            (360, 720), (8, 8), in_channels=4, out_channels=4, embed_dim=256, depth=4, num_blocks=8
        ).to(device)
        theirs = nemo.AFNO([360, 720], 4, 4, [8, 8], 256, 4, num_blocks=8).to(device)

        class Blocks(nn.Module):
            def __init__(self, inner: nn.Module) -> None:
                super().__init__()
                self.inner = inner

            def forward(self, x: Tensor) -> Tensor:
                with torch.autocast(device.split(":", maxsplit=1)[0], torch.bfloat16):
                    for block in self.inner.blocks:
                        x = block(x)
                return x

        x = random(1, 45, 90, 256)
        return Case(
            "AFNO blocks, depth 4, bf16",
            "physicsnemo bf16",
            Blocks(ours),
            Blocks(theirs),
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            goals,
        )

    def sphere(shape: tuple[int, ...], grid: Any) -> Case:
        b, nlat, nlon, l = shape
        ours = nn.Sequential(
            RealSHT(nlat, nlon, l, mmax=l, grid=grid), InverseRealSHT(nlat, nlon, l, mmax=l, grid=grid)
        ).to(device)
        transforms = (harmonics.RealSHT, harmonics.InverseRealSHT)
        theirs = nn.Sequential(
            *(transform(nlat, nlon, lmax=l, mmax=l, grid=grid) for transform in transforms)
        ).to(device)
        x = random(b, nlat, nlon)
        assert (ours(x) - theirs(x)).abs().max() < 1e-3
        return Case(
            f"SHT round trip {b},{nlat},{nlon},{l} {grid}",
            "torch-harmonics",
            ours,
            theirs,
            x.requires_grad_(),
            x.detach().clone().requires_grad_(),
            (1.0, 1.0),
        )

    if neuralop:
        importlib.import_module("neuralop.layers.spectral_convolution")
        importlib.import_module("neuralop.models")
        comparisons += [(f"spectral {s}", partial(spectral, *s, g)) for s, g in SPECTRAL]
        comparisons += [(f"model {s}", partial(model, *s, g)) for s, g in MODELS]
    if nemo:
        comparisons += [(f"mixer {s}", partial(mixer, s, g)) for s, g in MIXERS]
        comparisons += [("blocks", lambda: blocks((None, 1.3)))]
    if harmonics:
        comparisons += [(f"sphere {s}", partial(sphere, s, g)) for s, g in SPHERES]
    return comparisons
