"""An experiment beside simulations: sensors that see one instance of unknown initial state and unknown
numbers.

Unknown are the logarithms of the numbers and the waves of the initial state, z in units of their spread in
the simulations, which is their Gaussian prior. The most probable z minimises

    |u(z; x_i, t_j) - s_ij|^2 / noise^2 + |z|^2

with u the operator's solution. While the operator is trained on simulations, z is found anew by Gauss-Newton
steps at every tenth of the training from ``FIRST`` on, and between these the operator is trained to satisfy
the equation there: on ``DRAWS`` instances a step that the sensors leave possible. So it becomes exact where
the answer lies, and only the equation says what it is. (Weights that are trained to agree with the sensors
take up part of what the viscosity should explain; so does an initial state found by gradient steps.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...batch import Instances
from ...errors import NonFiniteError
from ..loop import Loss
from .operator import EvolutionObjective, interpolate_in_time

WAVES = 16
FIRST = 0.5
DRAWS = 8


@dataclass(frozen=True)
class Sensors:
    """Readings of one field.

    Attributes:
        places: of the sensors in shares of the domain, shape (sensor,).
        times: of the readings after the initial one, shape (time,).
        readings: shape (sensor, time), NaN where there is none.
        noise: standard deviation of a reading.
    """

    places: Tensor
    times: Tensor
    readings: Tensor
    noise: float


class LatentParameters(nn.Module):
    """What is not known of an experiment on a line that wraps, in units of its spread in simulations.

    Args:
        states: initial states of simulations, shape (sample, 1, points).
        parameters: numbers of the simulations by name, each of shape (sample,).
    """

    def __init__(self, states: Tensor, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.points, self.names = states.shape[-1], tuple(parameters)
        waves = torch.fft.rfft(states[:, 0].double(), norm="forward")[
            :, : min(WAVES, (states.shape[-1] - 1) // 2) + 1
        ]
        logs = [p.double().log() for p in parameters.values()]
        self.register_buffer("spread", (waves.abs().square().mean(0) / 2).sqrt(), persistent=False)
        self.register_buffer(
            "centre", torch.stack([n.mean() for n in logs]) if logs else torch.zeros(0), persistent=False
        )
        self.register_buffer(
            "width", torch.stack([n.std() for n in logs]) if logs else torch.zeros(0), persistent=False
        )
        self.register_buffer("z", torch.zeros(len(logs) + 2 * len(self.spread), dtype=torch.float64))
        self.register_buffer(
            "factor", torch.zeros(len(self.z), len(self.z), dtype=torch.float64)
        )  # its square is the covariance of z
        self.register_buffer("tenths", torch.zeros(()))  # of the training after which z was found last
        self.z: Tensor
        self.factor: Tensor
        self.tenths: Tensor
        self.spread: Tensor
        self.centre: Tensor
        self.width: Tensor

    def draw(self, count: int, generator: torch.Generator) -> Instances:
        """Return instances that the sensors leave possible."""
        return self.instances(
            self.z + torch.randn(count, len(self.z), generator=generator, dtype=self.z.dtype) @ self.factor.mT
        )

    def instances(self, z: Tensor) -> Instances:
        """Return the experiment as instances of the equation, for unknowns of shape (batch, unknown)."""
        count, z = len(self.names), z.double()
        logs = self.centre + self.width * z[:, :count]
        real, imaginary = z[:, count:].unflatten(1, (2, -1)).unbind(1)
        waves = self.spread * torch.complex(real, torch.cat([0 * imaginary[:, :1], imaginary[:, 1:]], dim=1))
        state = torch.fft.irfft(waves, n=self.points, norm="forward").float()
        numbers = {n: logs[:, i].exp().float() for i, n in enumerate(self.names)}
        return Instances(state[:, None], state.new_zeros(len(z), 0, self.points), numbers)


class InverseObjective:
    """The objective of an operator on simulations, and of the unknowns of an experiment.

    Args:
        base: objective on simulations.
        unknowns: of the experiment.
        sensors: what was seen of it.
        weight: of the equation's residual at the experiment.
    """

    def __init__(
        self, base: EvolutionObjective, unknowns: LatentParameters, sensors: Sensors, weight: float
    ) -> None:
        self.base, self.unknowns, self.sensors, self.weight = base, unknowns, sensors, weight
        self.known = torch.isfinite(sensors.readings)

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch of simulations and the experiment."""
        base = self.base.loss(batch, share, generator)
        if share < FIRST:
            return base
        tenths = math.floor(10 * share + 1e-9)
        if tenths > float(self.unknowns.tenths):
            self.recover()
            self.unknowns.tenths.fill_(tenths)
        possible = self.unknowns.draw(DRAWS, generator)
        with torch.no_grad():
            march = self.base.model.integrate_windows(
                possible.state, possible.inputs, possible.parameters, self.base.windows - 1
            )
            starts = torch.cat([possible.state, *(u[:, -1] for u in march)])
        numbers = {name: t.repeat(self.base.windows) for name, t in possible.parameters.items()}
        u = self.base.model(starts, possible.inputs.repeat(self.base.windows, 1, 1), numbers)
        residual, scaled = self.base.residuals(u, numbers)
        size = (scaled.square().mean() / self.base.model.solution.square().mean()).sqrt()
        found = {name: t[0] for name, t in self.unknowns.instances(self.unknowns.z[None]).parameters.items()}
        return Loss(
            base.value + self.weight * size,
            {**base.terms, "experiment": residual.square().mean().sqrt(), **found},
        )

    def errors(self, batch: Instances) -> Tensor:
        """Return the errors on simulations."""
        return self.base.errors(batch)

    def at_sensors(self, windows: Sequence[Tensor]) -> Tensor:
        """Return the solution at the sensors, shape (batch, sensor, time), by the waves in space and the
        polynomials in time.
        """
        shares = self.sensors.times / self.base.model.window
        parts = []
        for w, u in enumerate(windows):
            inside = (shares > w - 1e-9 if w == 0 else shares > w + 1e-9) & (shares <= w + 1 + 1e-9)
            parts.append(interpolate_in_time(u, (shares[inside] - w).clamp(min=0))[:, :, 0])
        field = torch.cat(parts, dim=1)
        n = field.shape[-1]
        k = torch.arange(n // 2 + 1, dtype=field.dtype)
        weight = torch.where((k == 0) | (2 * k == n), 1.0, 2.0)
        phase = 2 * np.pi * self.sensors.places.to(field)[:, None] * k
        waves = torch.fft.rfft(field, norm="forward") * weight
        result: Tensor = torch.cos(phase) @ waves.real.mT - torch.sin(phase) @ waves.imag.mT
        return result

    @torch.no_grad()
    def recover(self, steps: int = 40) -> dict[str, dict[str, float]]:
        """Find the unknowns with the operator as it is, and return the numbers with their standard
        deviations.

        Gauss-Newton steps from the middle of the prior, with derivatives by differences. The deviations are
        those of the Gaussian around them, the inverse of ``J^T J / noise^2 + 1`` with J the derivative of the
        readings by the unknowns, widened where the misfit, which is returned in units of the noise, is larger
        than one. The error of the operator is not in them.

        Raises:
            NonFiniteError: the operator's solution at the sensors is not finite; the unknowns stay as they
                were.
        """
        noise, readings = self.sensors.noise, self.sensors.readings[self.known]
        z = torch.zeros_like(self.unknowns.z)
        made, damping = self._readings(z[None])[0], 1.0
        for _ in range(steps):
            jacobian = self._jacobian(z)
            if not (torch.isfinite(made).all() and torch.isfinite(jacobian).all()):
                raise NonFiniteError(
                    "the operator's solution at the sensors, or its derivative by the unknowns, is not finite"
                )
            curvature = jacobian.T @ jacobian / noise**2 + torch.eye(len(z), dtype=z.dtype)
            slope = jacobian.T @ (made - readings) / noise**2 + z
            step = torch.linalg.solve(curvature + damping * torch.diag(curvature.diagonal()), slope)
            tried = self._readings((z - step)[None])[0]
            better = self.negative_log_posterior(tried, z - step) < self.negative_log_posterior(made, z)
            damping = damping / 4 if better else damping * 4
            if better:
                z, made = z - step, tried
            if damping > 1e8 or step.norm() < 1e-3:
                break
        jacobian = self._jacobian(z)
        covariance = torch.linalg.inv(jacobian.T @ jacobian / noise**2 + torch.eye(len(z), dtype=z.dtype))
        misfit = float((made - readings).square().mean().sqrt()) / noise
        factor = torch.linalg.cholesky(covariance)
        self.unknowns.z.copy_(z)
        self.unknowns.factor.copy_(factor * max(1.0, misfit))
        found = {}
        for i, name in enumerate(self.unknowns.names):
            value = float((self.unknowns.centre[i] + self.unknowns.width[i] * z[i]).exp())
            spread = float(self.unknowns.width[i] * self.unknowns.factor[i].norm())
            found[name] = {"value": value, "standard_deviation": value * spread, "misfit_over_noise": misfit}
        return found

    def negative_log_posterior(self, made: Tensor, z: Tensor) -> float:
        return float(
            (made - self.sensors.readings[self.known]).square().sum() / self.sensors.noise**2
            + z.square().sum()
        )

    def _readings(self, z: Tensor) -> Tensor:
        """Return what the sensors would read, shape (batch, reading), for unknowns of shape (batch, unknown)."""
        instance = self.unknowns.instances(z)
        windows = self.base.model.integrate_windows(
            instance.state, instance.inputs, instance.parameters, self.base.windows
        )
        return self.at_sensors(list(windows))[:, self.known].double()

    def _jacobian(self, z: Tensor, step: float = 1e-2) -> Tensor:
        shifts = step * torch.eye(len(z), dtype=z.dtype)
        ahead, behind = self._readings(torch.cat([z + shifts, z - shifts])).chunk(2)
        return (ahead - behind).T / (2 * step)
