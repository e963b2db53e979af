"""Forward propagation of a network's value and derivatives by Faa di Bruno's formula along each axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError


@dataclass(frozen=True)
class Jet:
    """Value and derivatives of a network at points, callable as the derivative operator of an equation.

    Attributes:
        value: u, shape (points,).
        derivatives: derivatives of u by axis and order, each of shape (points,).
        layers: output and input of each dense layer, each of shape (1 + derivatives, points, features).
    """

    value: Tensor
    derivatives: Mapping[tuple[str, int], Tensor]
    layers: Sequence[tuple[Tensor, Tensor]]

    def __call__(self, u: Tensor, axis: str, order: int = 1) -> Tensor:
        """Return the derivative of the network's value along an axis.

        Args:
            u: must be ``value``.
            axis: name of a coordinate.
            order: order of the derivative.

        Raises:
            InputError: ``u`` is another tensor, or the derivative was not computed.
        """
        if u is not self.value:
            raise InputError("a jet has derivatives of the network's value only")
        if (axis, order) not in self.derivatives:
            raise InputError(f"the derivative of order {order} along {axis!r} was not computed")
        return self.derivatives[axis, order]


def tanh_streams(z: Tensor, orders: Sequence[int]) -> Tensor:
    """Return tanh(z) and its derivatives, given z and its derivatives.

    Args:
        z: value, followed by the derivatives along each axis in turn, in increasing order, shape
            (1 + derivatives, ...).
        orders: highest order along each axis, at most 4.
    """
    y = torch.tanh(z[0])
    f1 = 1 - y * y
    f2 = -2 * y * f1
    f3 = f1 * (6 * y * y - 2)
    f4 = y * f1 * (16 - 24 * y * y)
    streams = [y]
    at = 1
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
            streams.append(
                f4 * a[0] ** 4
                + 6 * f3 * a[0] ** 2 * a[1]
                + f2 * (4 * a[0] * a[2] + 3 * a[1] ** 2)
                + f1 * a[3]
            )
    return torch.stack(streams)
