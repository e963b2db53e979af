"""Coordinate networks of PINNs, with exact derivatives."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..layers.jets import Jet, tanh_streams
from ..precision import require_real
from .base import PreciseConstants, summary


class CoordinateNetwork(PreciseConstants):
    """Dense network with tanh activations from coordinates to one value u, as in PINNs (Raissi et al. 2019).

    Coordinates of axes that are not periodic are scaled to [-1, 1]; a periodic coordinate enters as the
    cosines and sines of its first harmonics, so that the network is periodic too (Dong and Ni 2021). Random
    Fourier features (Tancik et al. 2020) help to represent small scales. Parameters are float64, which
    second-order optimisers need.

    Args:
        low: smallest coordinate of each axis.
        high: largest coordinate of each axis; one period from ``low`` for a periodic axis.
        periodic: names of the periodic axes.
        harmonics: number of harmonics of each periodic axis.
        width: features of a hidden layer.
        depth: number of hidden layers.
        fourier_features: number of random Fourier features.
        fourier_scale: standard deviation of their wavenumbers, for coordinates scaled to [-1, 1].
        initialisation: ``xavier`` (Glorot and Bengio 2010) or ``orthogonal`` (Saxe et al. 2014).

    Raises:
        ValueError: a count below one, or bounds that are not increasing.
    """

    def __init__(
        self,
        low: Mapping[str, float],
        high: Mapping[str, float],
        periodic: Sequence[str] = (),
        *,
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
                f"{wrong[0]} must increase from low to high, got {low[wrong[0]]} to {high[wrong[0]]}"
            )
        self.axes = tuple(low)
        straight = [axis for axis in self.axes if axis not in periodic]
        scale = {axis: 2 / (high[axis] - low[axis]) for axis in self.axes}
        # Features are cos(frequency . (coordinate - low) + phase): a sine is a cosine with phase -pi/2.
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

    def __repr__(self) -> str:
        layers = cast("list[nn.Linear]", list(self.layers))
        axes = ", ".join(self.axes)
        return summary(
            self,
            f"({axes}) -> u, {layers[0].in_features} features, width={layers[0].out_features}, "
            f"depth={len(layers) - 1}",
        )

    def forward(self, points: Tensor) -> Tensor:
        """Return u, shape (points,), at points of shape (points, axes)."""
        return self.jet(points, {}).value

    def jet(self, points: Tensor, orders: Mapping[str, int]) -> Jet:
        """Return u and its derivatives along each axis, propagated forward by Faa di Bruno's formula.

        Args:
            points: coordinates, shape (points, axes).
            orders: highest order of derivative for each axis, at most 4.

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
        """Return the input features of the coordinates, or their derivative along an axis.

        The shape is (points, features).
        """
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
    """Sequence of networks on equal windows of time in [0, 1] (time marching, Krishnapriyan et al. 2021).

    Args:
        networks: network of each window in order; the first coordinate is time.
    """

    def __init__(self, networks: Sequence[CoordinateNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def __repr__(self) -> str:
        return summary(self, f"{len(self.networks)} windows", self.networks[:1])

    def forward(self, points: Tensor) -> Tensor:
        """Return u, shape (points,), at points of shape (points, axes).

        Raises:
            InputError: complex coordinates.
        """
        require_real(points)
        count = len(self.networks)
        window = (points[:, 0] * count).long().clamp(0, count - 1)
        # Every network is evaluated at all points: compilers and vmap need shapes independent of values.
        u: Tensor = self.networks[0](points)
        for i, network in enumerate(self.networks):
            u = torch.where(window == i, network(points), u) if i else u
        return u
