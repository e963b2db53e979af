"""One time step of a forecast with any network, in normalised anomalies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..precision import require_real
from ..random import normal
from .base import PreciseConstants, summary, weights_dtype


@dataclass(frozen=True)
class Scales:
    """Normalisation constants of each channel in its physical units, each of shape (channel,).

    Attributes:
        mean: mean of the state.
        std: standard deviation of the state.
        anomaly_std: standard deviation of the anomaly (departure from the background).
        tendency_std: standard deviation of the change of the anomaly over one step.
    """

    mean: Tensor
    std: Tensor
    anomaly_std: Tensor
    tendency_std: Tensor


class Stepper(PreciseConstants):
    """Advance anomalies from a known background (the seasonal and diurnal cycle) by one step.

    With the anomaly a = (x - b) / s of state x, background b and scale s,

        a(t + 1) = a(t) + r N(a(t - W + 1), ..., a(t), b(t), b(t + 1), f(t), f(t + 1), g)

    where N is the network, f the forcing, g static fields and r the ratio of tendency to anomaly scale, so
    that the network predicts a quantity of order one. N = 0 gives persistence of the anomaly.

    A network may also receive Gaussian noise (Lang et al. 2024, arXiv:2412.15832) and a lead time k (Herde et
    al. 2024, arXiv:2405.19101). It then predicts a(t + k) from b(t + k) and f(t + k), with r sqrt(k) in place
    of r, and k divided by the longest lead time is another, constant field of the input.

    Args:
        network: maps (batch, ``in_channels``, H, W) to (batch, channel, H, W); see ``input_channels``.
        scales: normalisation of the channels.
        static: constant fields, shape (static, H, W).
        mask: points where each channel has values, shape (channel, H, W), boolean.
        window: number W of input states.
        noise_channels: number of input channels of Gaussian noise, with which a network trained on an
            ensemble score generates members; zeros give a deterministic forecast.
        damping: fraction d by which anomalies are damped, except in training: (1 - d) a(t + 1) replaces
            a(t + 1).
        lead_times: lead times k [steps] that the network is conditioned on; none for one step alone.

    Raises:
        ValueError: the damping is not in [0, 1).
    """

    def __init__(
        self,
        network: nn.Module,
        scales: Scales,
        static: Tensor,
        *,
        mask: Tensor,
        window: int = 2,
        noise_channels: int = 0,
        damping: float = 0.0,
        lead_times: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.network = network
        self.window = window
        self.noise_channels = noise_channels
        if not 0 <= damping < 1:
            raise ValueError(f"damping must be in [0, 1), got {damping}")
        self.damping = damping
        self.lead_times = tuple(lead_times)
        for name in ("mean", "std", "anomaly_std", "tendency_std"):
            self.register_buffer(name, getattr(scales, name).float().reshape(-1, 1, 1), persistent=False)
        self.register_buffer("static", static.float(), persistent=False)
        self.register_buffer("mask", mask.bool(), persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.anomaly_std: Tensor
        self.tendency_std: Tensor
        self.static: Tensor
        self.mask: Tensor

    def __repr__(self) -> str:
        points = " x ".join(str(n) for n in self.mask.shape[-2:])
        text = f"{len(self.mask)} channels, {points} points, window={self.window}, {len(self.static)} static"
        return summary(self, text, [self.network])

    @staticmethod
    def input_channels(
        channels: int, *, window: int, forcings: int, static: int, noise: int = 0, lead_time: bool = False
    ) -> int:
        """Return the number of input channels of the network.

        Args:
            channels: number of channels of the state.
            window: number W of input states.
            forcings: number of forcing fields.
            static: number of static fields.
            noise: number of noise fields.
            lead_time: whether the lead time is an input.
        """
        return (window + 2) * channels + 2 * forcings + static + noise + lead_time

    def anomaly(self, state: Tensor, background: Tensor) -> Tensor:
        """Return the normalised anomaly of a state, zero outside the mask.

        Args:
            state: state in physical units, shape (..., channel, H, W).
            background: background at the same times, same shape.
        """
        return torch.where(self.mask, (state - background) / self.anomaly_std, 0.0)

    def state(self, anomaly: Tensor, background: Tensor) -> Tensor:
        """Return the state in physical units: the inverse of ``anomaly``, NaN outside the mask.

        Args:
            anomaly: normalised anomaly, shape (..., channel, H, W).
            background: background at the same times in physical units, same shape.
        """
        return torch.where(self.mask, background + anomaly * self.anomaly_std, torch.nan)

    def noise(self, window: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return Gaussian noise for one step, shape (batch, noise, H, W), zeros without a generator.

        Args:
            window: what ``forward`` takes.
            generator: source of random numbers, on the CPU.
        """
        shape = (len(window), self.noise_channels, *window.shape[-2:])
        if generator is None or not self.noise_channels:
            return window.new_zeros(shape)
        return normal(shape, generator).to(window)

    def forward(
        self,
        window: Tensor,
        background: Tensor,
        forcing: Tensor,
        *,
        noise: Tensor | None = None,
        lead: Tensor | None = None,
    ) -> Tensor:
        """Return the next anomaly, shape (batch, channel, H, W).

        Args:
            window: the last W anomalies, oldest first, shape (batch, W, channel, H, W).
            background: background now and one step later, in physical units, shape (batch, 2, channel, H, W).
            forcing: forcing now and one step later, shape (batch, 2, forcing, H, W).
            noise: noise input, shape (batch, noise, H, W); zeros by default.
            lead: number of steps k to advance each sample, shape (batch,), in which case background and
                forcing are those now and k steps later; one step by default.

        Raises:
            InputError: complex values.
        """
        cycle = torch.where(self.mask, (background - self.mean) / self.std, 0.0)
        inputs = [window.flatten(1, 2), cycle.flatten(1, 2), forcing.flatten(1, 2)]
        inputs.append(self.static.expand(len(window), -1, -1, -1))
        if self.noise_channels:
            inputs.append(self.noise(window, None) if noise is None else noise)
        if self.lead_times:
            inputs.append(self._lead_field(window, lead))
        joined = torch.cat(inputs, dim=1)
        require_real(joined)
        tendency = self.network(joined.to(weights_dtype(self.network, joined.dtype)))
        if lead is not None:
            tendency = tendency * lead.to(tendency.dtype).sqrt()[:, None, None, None]
        step = torch.where(self.mask, window[:, -1] + tendency * (self.tendency_std / self.anomaly_std), 0.0)
        if self.damping and not self.training:
            step = step * (1 - self.damping)
        return step.to(window.dtype)

    def _lead_field(self, window: Tensor, lead: Tensor | None) -> Tensor:
        """Return the lead time as a fraction of the longest, a constant field, shape (batch, 1, H, W)."""
        steps = window.new_ones(len(window)) if lead is None else lead.to(window.dtype)
        return (steps / max(self.lead_times))[:, None, None, None].expand(-1, 1, *window.shape[-2:])

    def rollout(
        self,
        window: Tensor,
        drivers: Iterable[tuple[Tensor, Tensor]],
        at_once: int | None = None,
        *,
        noise: Callable[[Tensor], Tensor] | None = None,
    ) -> Iterator[Tensor]:
        """Yield the anomaly of each step after the window, one for each entry of ``drivers``.

        Args:
            window: the last W anomalies, oldest first, shape (batch, W, channel, H, W).
            drivers: background and forcing of each step, as ``forward`` takes them.
            at_once: largest number of samples that the network processes at a time, which bounds its memory;
                all by default.
            noise: returns the noise input of a step, called with its window; zeros by default.
        """
        for background, forcing in drivers:
            drawn = self.noise(window, None) if noise is None else noise(window)
            tensors = (window, background, forcing, drawn)
            parts = zip(*(tensor.split(at_once or len(window)) for tensor in tensors), strict=True)
            step = torch.cat([self(*part, noise=drawn) for *part, drawn in parts])
            window = torch.cat([window[:, 1:], step[:, None]], dim=1)
            yield step
