"""The network of FourCastNet that diagnoses precipitation from a forecast of other variables."""

from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from ..grids import Grid
from .afno import AFNO
from .base import Clipping, GridModel


class PrecipNet(GridModel):
    """An AFNO, a convolution of 3 x 3 points and a rectifier (Pathak et al. 2022, arXiv:2202.11214, 3.2):

        y = relu(conv(AFNO(x)))

    so that the output is not negative. Its target is ``log(1 + p / epsilon)`` of the precipitation p, see
    ``datasets.target_scales``. The convolution is periodic in longitude, with zeros beyond the poles.
    Parameter names and shapes are those of FourCastNet, so its published weights load unchanged.

    Args:
        inp_shape: grid points (H, W) of the position embedding.
        patch_size: points of a patch along (H, W).
        in_channels: channels of the input, normalised.
        out_channels: channels of the output.
        **options: further arguments of ``AFNO``.
    """

    layers_option = "depth"

    def __init__(
        self,
        inp_shape: tuple[int, int],
        patch_size: tuple[int, int] = (8, 8),
        *,
        in_channels: int = 20,
        out_channels: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(in_channels, 2)
        self.out_channels = out_channels
        self.inp_shape = tuple(inp_shape)
        self.backbone = AFNO(
            inp_shape, patch_size, in_channels=in_channels, out_channels=out_channels, **options
        )
        self.conv = nn.Conv2d(out_channels, out_channels, 3)

    @classmethod
    def fit_options(cls, grid: Grid, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Clipping]]:
        """Return the arguments for a grid; see ``AFNO.fit_options``."""
        return AFNO.fit_options(grid, options)

    def extra_repr(self) -> str:
        """Return the description of the AFNO."""
        return self.backbone.extra_repr()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``x``, shape (batch, in_channels, H, W), to (batch, out_channels, H, W), not negative.

        Raises:
            InputError: an invalid tensor, see ``GridModel.check``.
        """
        self.check(x)
        y = nn.functional.pad(self.backbone(x), (1, 1, 0, 0), mode="circular")
        return nn.functional.relu(cast(Tensor, self.conv(nn.functional.pad(y, (0, 0, 1, 1)))))
