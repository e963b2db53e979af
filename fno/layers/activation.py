"""Alias-free activation: maps band-limited functions to band-limited functions on any grid."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from ..precision import full_precision
from ..transforms.fourier import from_modes, to_modes


class AliasFreeGELU(nn.Module):
    """Up-sample, activate, low-pass: ``y = P gelu(P x)`` with ``P`` the projection on fixed modes.

    A pointwise nonlinearity generates wavenumbers that alias on a coarse grid, so that the same network
    computes a different function on every grid. Here ``P x`` is evaluated on a grid of twice the points that
    the band needs, independent of the grid of ``x``, and components outside the band are removed; the result
    depends on the band-limited ``x`` alone (after Raonic et al. 2023, arXiv:2302.01178).

    Args:
        n_modes: wavenumbers per dimension, ``|k| < n``.
    """

    def __init__(self, n_modes: Sequence[int]) -> None:
        super().__init__()
        self.band = tuple(2 * n - 1 for n in n_modes)
        self.points = tuple(2 * n for n in self.band)

    def extra_repr(self) -> str:
        """Return the number of wavenumbers of the band along each dimension."""
        return f"band={self.band}"

    def forward(self, x: Tensor) -> Tensor:
        """Apply to ``x``, shape (batch, *grid, channel).

        Raises:
            ModesError: the grid cannot resolve the band.
            InputError: ``x`` is complex.
        """
        return full_precision(self._activate, x)

    def _activate(self, x: Tensor) -> Tensor:
        y = functional.gelu(from_modes(to_modes(x, self.band), self.band, self.points))
        return from_modes(to_modes(y, self.band), self.band, x.shape[1:-1])
