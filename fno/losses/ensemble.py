"""The almost fair continuous ranked probability score, for ensembles that a noise input generates."""

from torch import Tensor

from ..errors import SettingError
from .base import DataLoss, LossDomain


class AlmostFairCRPS(DataLoss):
    """The almost fair CRPS of an ensemble of M members (Lang et al. 2024, arXiv:2412.15832, equation 4).

        afCRPS = 1 / (2 M (M - 1)) sum_{j != k} <|x_j - t| + |x_k - t| - (1 - (1 - alpha) / M) |x_j - x_k|>

    It is alpha times the fair CRPS, which does not depend on the size of the ensemble in expectation, plus
    1 - alpha times the CRPS, which keeps a member from drifting away where all others equal the truth.
    Each term of the sum is at least zero, so no two large numbers cancel.

    Args:
        domain: grid, weights and scales.
        members: number of members M.
        alpha: share of the fair score, in [0, 1].

    Raises:
        SettingError: fewer than two members, or ``alpha`` outside [0, 1].
    """

    degree = 1
    ensemble = True

    def __init__(self, domain: LossDomain, *, members: int = 2, alpha: float = 0.95) -> None:
        super().__init__(domain)
        if not 2 <= members <= 1000:
            raise SettingError(f"members must be between 2 and 1000, got {members}")
        if not 0 <= alpha <= 1:
            raise SettingError(f"alpha must be in [0, 1], got {alpha}")
        self.members = members
        self.alpha = alpha

    def __call__(self, prediction: Tensor, target: Tensor, lead: float = 1) -> Tensor:
        """Return the loss of each channel; arguments as for ``DataLoss``."""
        count = len(prediction)
        errors = (prediction - target).abs()
        spread = 1 - (1 - self.alpha) / count
        pairs = [(j, k) for k in range(count) for j in range(k)]
        total = sum(
            (errors[j] + errors[k] - spread * (prediction[j] - prediction[k]).abs() for j, k in pairs[1:]),
            errors[0] + errors[1] - spread * (prediction[0] - prediction[1]).abs(),
        )
        return self.domain.mean(total / (count * (count - 1))) * self.domain.scale
