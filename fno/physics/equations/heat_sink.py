"""Heat through a plate with fins into air, in cross-section; it has a solver but no residual."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .base import Coefficient, Equation


def reference_size(system: Mapping[str, Any], inputs: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return ``q L / (h P)`` [K]: the excess temperature at which the air removes the heat that enters.

    The heat flux q enters over the length L, and h is the heat transfer coefficient on the perimeter P
    between metal and air.
    """
    metal = torch.nn.functional.pad(inputs[:, :1], (0, 0, 0, 1))  # air above
    rows, columns = inputs.shape[-2:]
    horizontal = metal.diff(dim=-2).abs().sum(dim=(-2, -1), keepdim=True)
    vertical = metal.diff(dim=-1).abs().sum(dim=(-2, -1), keepdim=True)
    share = (horizontal + vertical * (columns / rows)) / columns
    return float(system["flux"]) / (parameters["transfer"].to(inputs).reshape(-1, 1, 1, 1) * share)


HEAT_SINK = Equation(
    name="heat_sink",
    formula="-div(conductivity grad T)",
    coefficients=(
        Coefficient("conductivity", "thermal conductivity of the metal", 200.0, "W/(m K)"),
        Coefficient("flux", "heat that enters below", 2e4, "W/m²"),
        Coefficient(
            "transfer", "heat transfer coefficient to the air, one value per sample", None, "W/(m² K)"
        ),
    ),
    orders={"y": 2, "x": 2},
    residual=None,
    translation_invariant=False,
    reference_size=reference_size,
)
