"""A network of coordinates, with its derivatives carried along exactly."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..layers.jets import Jet, tanh_streams
from ..precision import require_real
from .base import PreciseConstants


class CoordinateNetwork(PreciseConstants):
    """Dense layers with tanh between them, from coordinates to one number: the network of PINNs (Raissi et
    al. 2019).

    Coordinates that do not wrap enter scaled to [-1, 1]; one that does enters as the cosines and sines of its
    first waves, so that the network wraps too (Dong and Ni 2021). Random Fourier features (Tancik et al.
    2020) help with small scales. Parameters are float64, which second-order optimisers need.

    Args:
        low: smallest coordinates, by axis.
        high: largest ones; for an axis that wraps, one period from ``low``.
        periodic: axes that wrap.
        harmonics: waves of an axis that wraps.
        width: features of a hidden layer.
        depth: hidden layers.
        fourier_features: random features.
        fourier_scale: standard deviation of their wave numbers, on coordinates scaled to [-1, 1].
        initialisation: ``xavier`` (Glorot and Bengio 2010) or ``orthogonal`` (Saxe et al. 2014).

    Raises:
        ValueError: a count below one, or bounds that are not in order.
    """

    def __init__(
        self,
        low: Mapping[str, float],
        high: Mapping[str, float],
        periodic: Sequence[str] = (),
        harmonics: int = 1,
        width: int = 20,
        depth: int = 3,
        fourier_features: int = 0,
        fourier_scale: float = 1.0,
        initialisation: Literal["xavier", "orthogonal"] = "xavier",
    ) -> None:
        super().__init__()
        if min(harmonics, width, depth) < 1 or fourier_features < 0:
            raise ValueError(
                f"harmonics, width and depth must be at least 1, got {harmonics}, {width}, {depth}"
            )
        if wrong := [axis for axis in low if not low[axis] < high[axis]]:
            raise ValueError(
                f"{wrong[0]} must grow from low to high, got {low[wrong[0]]} to {high[wrong[0]]}"
            )
        self.axes = tuple(low)
        straight = [axis for axis in self.axes if axis not in periodic]
        scale = {axis: 2 / (high[axis] - low[axis]) for axis in self.axes}
        # Waves are cos(frequency . (coordinate - low) + phase): a sine is a cosine a quarter of a period
        # later.
        waves = [
            [math.pi * scale[axis] * m * (axis == other) for other in self.axes]
            for axis in periodic
            for m in range(1, harmonics + 1)
        ]
        random = torch.randn(fourier_features, len(self.axes), dtype=torch.float64) * fourier_scale
        for i, axis in enumerate(self.axes):
            random[:, i] = (
                random[:, i] * scale[axis]
                if axis in straight
                else (random[:, i] * harmonics).round() * math.pi * scale[axis]
            )
        frequency = torch.cat([torch.tensor(waves, dtype=torch.float64).reshape(-1, len(self.axes)), random])
        constants = {
            "low": torch.tensor([low[axis] for axis in self.axes], dtype=torch.float64),
            "linear": torch.tensor(
                [[scale[a] * (a == b) for b in self.axes] for a in straight], dtype=torch.float64
            ).reshape(-1, len(self.axes)),
            "frequency": torch.cat([frequency, frequency]),
            "phase": torch.cat(
                [torch.zeros(len(frequency)), torch.full((len(frequency),), -math.pi / 2)]
            ).double(),
        }
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)
        self.low: Tensor
        self.linear: Tensor
        self.frequency: Tensor
        self.phase: Tensor
        sizes = [len(self.linear) + len(self.phase), *[width] * depth, 1]
        self.layers = nn.ModuleList(
            nn.Linear(a, b, dtype=torch.float64) for a, b in zip(sizes[:-1], sizes[1:], strict=True)
        )
        for layer in cast("list[nn.Linear]", list(self.layers)):
            nn.init.zeros_(layer.bias)
            if initialisation == "xavier":
                nn.init.xavier_normal_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight, gain=nn.init.calculate_gain("tanh"))

    def forward(self, points: Tensor) -> Tensor:
        """Return u at points, shape (points, axes)."""
        return self.jet(points, {}).value

    def jet(self, points: Tensor, orders: Mapping[str, int]) -> Jet:
        """Return u and its derivatives along each axis up to an order, by Taylor's arithmetic through the
        layers (Faa di Bruno).

        Args:
            points: shape (points, axes).
            orders: highest order for each axis, at most 4.

        Raises:
            InputError: complex coordinates.
        """
        require_real(points)
        keys = [(axis, order) for axis in self.axes for order in range(1, orders.get(axis, 0) + 1)]
        streams = torch.stack([self._features(points), *(self._features(points, *key) for key in keys)]).to(
            cast(nn.Linear, self.layers[0]).weight.dtype
        )
        records: list[tuple[Tensor, Tensor]] = []
        for layer in cast("list[nn.Linear]", list(self.layers)):
            if records:
                streams = tanh_streams(streams, [orders.get(axis, 0) for axis in self.axes])
            z = streams @ layer.weight.T
            z = torch.cat([z[:1] + layer.bias, z[1:]])
            records.append((z, streams))
            streams = z
        u = streams[..., 0].unbind()
        return Jet(u[0], dict(zip(keys, u[1:], strict=True)), records)

    def _features(self, points: Tensor, axis: str | None = None, order: int = 0) -> Tensor:
        """Return the features of the coordinates, or a derivative of them along an axis."""
        x = (points - self.low).to(self.low.dtype)
        phase = x @ self.frequency.T + self.phase
        if axis is None:
            return torch.cat([x @ self.linear.T - 1, torch.cos(phase)], dim=-1)
        at = self.axes.index(axis)
        straight = (self.linear[:, at] * (order == 1)).expand(len(points), -1)
        return torch.cat(
            [straight, self.frequency[:, at] ** order * torch.cos(phase + order * math.pi / 2)], dim=-1
        )


class TimeWindows(nn.Module):
    """Networks that follow each other in time, each on its part of [0, 1] (time marching, Krishnapriyan et
    al. 2021).

    Args:
        networks: one for each of equally long windows; their first coordinate is time.
    """

    def __init__(self, networks: Sequence[CoordinateNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, points: Tensor) -> Tensor:
        """Return u at points, shape (points, axes).

        Raises:
            InputError: complex coordinates.
        """
        require_real(points)
        count = len(self.networks)
        window = (points[:, 0] * count).long().clamp(0, count - 1)
        # Each network at all points: compilers and vmap need shapes that do not depend on values.
        u: Tensor = self.networks[0](points)
        for i, network in enumerate(self.networks):
            u = torch.where(window == i, network(points), u) if i else u
        return u
