"""A network of coordinates, with its derivatives carried along exactly."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from ..errors import InputError


@dataclass(frozen=True)
class Jet:
    """Value and derivatives of a network at points; called as equations call a derivative.

    Attributes:
        value: u, shape (points,).
        derivatives: of u, by axis and order.
        layers: for each dense layer its result and its input, shape (1 + derivatives, points, features).
    """

    value: Tensor
    derivatives: Mapping[tuple[str, int], Tensor]
    layers: Sequence[tuple[Tensor, Tensor]]

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return a derivative of the network's value.

        Raises:
            InputError: ``u`` is something else, or a derivative that was not carried.
        """
        if u is not self.value:
            raise InputError("a jet holds derivatives of the network's value and of nothing else")
        if (axis, order) not in self.derivatives:
            raise InputError(f"the derivative of order {order} along {axis!r} was not asked for")
        return self.derivatives[axis, order]


class CoordinateNetwork(nn.Module):
    """Dense layers with tanh between them, from coordinates to one number: the network of PINNs (Raissi et al. 2019).

    Coordinates that do not wrap enter scaled to [-1, 1]; one that does enters as the cosines and sines of its first waves, so
    that the network wraps too (Dong and Ni 2021). Random Fourier features (Tancik et al. 2020) help with small scales.
    Parameters are float64, which second-order optimisers need.

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
            raise ValueError(f"harmonics, width and depth must be at least 1, got {harmonics}, {width}, {depth}")
        if wrong := [axis for axis in low if not low[axis] < high[axis]]:
            raise ValueError(f"{wrong[0]} must grow from low to high, got {low[wrong[0]]} to {high[wrong[0]]}")
        self.axes = tuple(low)
        straight = [axis for axis in self.axes if axis not in periodic]
        scale = {axis: 2 / (high[axis] - low[axis]) for axis in self.axes}
        # Waves are cos(frequency . (coordinate - low) + phase): a sine is a cosine a quarter of a period later.
        waves = [[math.pi * scale[axis] * m * (axis == other) for other in self.axes] for axis in periodic for m in range(1, harmonics + 1)]
        random = torch.randn(fourier_features, len(self.axes), dtype=torch.float64) * fourier_scale
        for i, axis in enumerate(self.axes):
            random[:, i] = random[:, i] * scale[axis] if axis in straight else (random[:, i] * harmonics).round() * math.pi * scale[axis]
        frequency = torch.cat([torch.tensor(waves, dtype=torch.float64).reshape(-1, len(self.axes)), random])
        constants = {
            "low": torch.tensor([low[axis] for axis in self.axes], dtype=torch.float64),
            "linear": torch.tensor([[scale[a] * (a == b) for b in self.axes] for a in straight], dtype=torch.float64).reshape(-1, len(self.axes)),
            "frequency": torch.cat([frequency, frequency]),
            "phase": torch.cat([torch.zeros(len(frequency)), torch.full((len(frequency),), -math.pi / 2)]).double(),
        }
        for name, tensor in constants.items():
            self.register_buffer(name, tensor)
        self.low: Tensor
        self.linear: Tensor
        self.frequency: Tensor
        self.phase: Tensor
        sizes = [len(self.linear) + len(self.phase), *[width] * depth, 1]
        self.layers = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in zip(sizes[:-1], sizes[1:], strict=True))
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
        """Return u and its derivatives along each axis up to an order, by Taylor's arithmetic through the layers (Faa di Bruno).

        Args:
            points: shape (points, axes).
            orders: highest order for each axis, at most 4.
        """
        keys = [(axis, order) for axis in self.axes for order in range(1, orders.get(axis, 0) + 1)]
        streams = torch.stack([self._features(points), *(self._features(points, *key) for key in keys)])
        records: list[tuple[Tensor, Tensor]] = []
        for layer in cast("list[nn.Linear]", list(self.layers)):
            if records:
                streams = _tanh(streams, [orders.get(axis, 0) for axis in self.axes])
            z = streams @ layer.weight.T
            z = torch.cat([z[:1] + layer.bias, z[1:]])
            records.append((z, streams))
            streams = z
        u = streams[..., 0].unbind()
        return Jet(u[0], dict(zip(keys, u[1:], strict=True)), records)

    def _features(self, points: Tensor, axis: str | None = None, order: int = 0) -> Tensor:
        """Return the features of the coordinates, or a derivative of them along an axis."""
        x = points - self.low
        phase = x @ self.frequency.T + self.phase
        if axis is None:
            return torch.cat([x @ self.linear.T - 1, torch.cos(phase)], dim=-1)
        at = self.axes.index(axis)
        straight = (self.linear[:, at] * (order == 1)).expand(len(points), -1)
        return torch.cat([straight, self.frequency[:, at] ** order * torch.cos(phase + order * math.pi / 2)], dim=-1)


def _tanh(z: Tensor, orders: Sequence[int]) -> Tensor:
    """Return the streams of tanh z: its value, then its derivatives along one axis after the other."""
    y = torch.tanh(z[0])
    f1 = 1 - y * y
    f2, f3, f4 = -2 * y * f1, f1 * (6 * y * y - 2), y * f1 * (16 - 24 * y * y)
    streams, at = [y], 1
    for order in orders:
        a = z[at : at + order].unbind()
        at += order
        if order > 0:
            streams.append(f1 * a[0])
        if order > 1:
            streams.append(f2 * a[0] ** 2 + f1 * a[1])
        if order > 2:
            streams.append(f3 * a[0] ** 3 + 3 * f2 * a[0] * a[1] + f1 * a[2])
        if order > 3:
            streams.append(f4 * a[0] ** 4 + 6 * f3 * a[0] ** 2 * a[1] + f2 * (4 * a[0] * a[2] + 3 * a[1] ** 2) + f1 * a[3])
    return torch.stack(streams)


class TimeWindows(nn.Module):
    """Networks that follow each other in time, each on its part of [0, 1] (time marching, Krishnapriyan et al. 2021).

    Args:
        networks: one for each of equally long windows; their first coordinate is time.
    """

    def __init__(self, networks: Sequence[CoordinateNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, points: Tensor) -> Tensor:
        """Return u at points, shape (points, axes)."""
        count = len(self.networks)
        window = (points[:, 0] * count).long().clamp(0, count - 1)
        u = points.new_empty(len(points))
        for i in window.unique().tolist():
            u[window == i] = self.networks[i](points[window == i])
        return u
