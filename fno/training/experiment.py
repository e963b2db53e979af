"""An experiment beside simulations: sensors that see one instance of unknown initial state and unknown numbers.

Unknown are the logarithms of the numbers and the waves of the initial state. They are trained together with an operator that is
itself trained on simulations, so that the operator run from them agrees with the sensors:

    L = L_simulations + w sqrt(mean((u(x_i, t_j) - s_ij)^2) + (noise^2 / m) |z|^2) / scale + w_e |residual of the equation|

where z are the unknowns in units of their spread in the simulations, a Gaussian prior, and m counts the readings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..batch import Instances
from .loop import Loss
from .solving import Evolving, frames

WAVES = 16


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


class Unknowns(nn.Module):
    """What is not known of an experiment on a line that wraps, in units of its spread in simulations.

    Args:
        states: initial states of simulations, shape (sample, 1, points).
        parameters: numbers of the simulations by name, each of shape (sample,).
    """

    def __init__(self, states: Tensor, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.points, self.names = states.shape[-1], tuple(parameters)
        waves = torch.fft.rfft(states[:, 0].double(), norm="forward")[:, : min(WAVES, (states.shape[-1] - 1) // 2) + 1]
        logs = [p.double().log() for p in parameters.values()]
        self.register_buffer("spread", (waves.abs().square().mean(0) / 2).sqrt(), persistent=False)
        self.register_buffer("centre", torch.stack([n.mean() for n in logs]) if logs else torch.zeros(0), persistent=False)
        self.register_buffer("width", torch.stack([n.std() for n in logs]) if logs else torch.zeros(0), persistent=False)
        self.z = nn.Parameter(torch.zeros(len(logs) + 2 * len(self.spread)))
        self.spread: Tensor
        self.centre: Tensor
        self.width: Tensor

    def instance(self, z: Tensor | None = None, points: int | None = None) -> Instances:
        """Return the experiment as an instance of the equation."""
        z = self.z if z is None else z
        count, points = len(self.names), points or self.points
        logs = self.centre + self.width * z[:count].double()
        real, imaginary = z[count:].double().reshape(2, -1)
        waves = self.spread * torch.complex(real, torch.cat([0 * imaginary[:1], imaginary[1:]]))
        state = torch.fft.irfft(waves, n=points, norm="forward").float()
        return Instances(state[None, None], state.new_zeros(1, 0, points), {n: logs[i : i + 1].exp().float() for i, n in enumerate(self.names)})


class WithExperiment:
    """The objective of an operator on simulations, and of the unknowns of an experiment.

    Args:
        base: objective on simulations.
        unknowns: of the experiment.
        sensors: what was seen of it.
        weight: of the misfit.
    """

    def __init__(self, base: Evolving, unknowns: Unknowns, sensors: Sensors, weight: float) -> None:
        self.base, self.unknowns, self.sensors, self.weight = base, unknowns, sensors, weight
        self.known = torch.isfinite(sensors.readings)
        self.scale = float(sensors.readings[self.known].square().mean().sqrt())

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch of simulations and the experiment."""
        base, instance = self.base.loss(batch, share, generator), self.unknowns.instance()
        windows = list(self.base.model.march(instance.state, instance.inputs, instance.parameters, self.base.windows))
        misfit = self._misfit(windows).square().mean()
        prior = self.sensors.noise**2 * self.unknowns.z.square().sum() / int(self.known.sum())
        total, terms = base.value + self.weight * (misfit + prior).sqrt() / self.scale, {**base.terms, "sensors": misfit.sqrt()}
        if self.base.weights.equation:
            residual, scaled = self.base.residuals(torch.cat(windows), {n: t.repeat(len(windows)) for n, t in instance.parameters.items()})
            size = (scaled.square().mean() / self.base.model.solution.square().mean()).sqrt()
            total, terms = total + self.base.weights.equation * size, terms | {"experiment_equation": residual.square().mean().sqrt()}
        numbers = {name: t.detach()[0] for name, t in instance.parameters.items()}
        return Loss(total, terms | numbers)

    def errors(self, batch: Instances) -> Tensor:
        """Return the errors on simulations."""
        return self.base.errors(batch)

    def _misfit(self, windows: Sequence[Tensor]) -> Tensor:
        made = self.at_sensors(windows)
        return (made - self.sensors.readings.to(made))[self.known]

    def at_sensors(self, windows: Sequence[Tensor]) -> Tensor:
        """Return the solution at the sensors, shape (sensor, time), by the waves in space and the polynomials in time."""
        shares = self.sensors.times / self.base.model.window
        parts = []
        for w, u in enumerate(windows):
            inside = (shares > w - 1e-9 if w == 0 else shares > w + 1e-9) & (shares <= w + 1 + 1e-9)
            parts.append(frames(u, (shares[inside] - w).clamp(min=0))[0, :, 0])
        field = torch.cat(parts)
        n = field.shape[-1]
        k = torch.arange(n // 2 + 1, dtype=field.dtype)
        weight = torch.where((k == 0) | (2 * k == n), 1.0, 2.0)
        phase = 2 * np.pi * self.sensors.places.to(field)[:, None] * k
        waves = torch.fft.rfft(field, norm="forward") * weight
        result: Tensor = torch.cos(phase) @ waves.real.T - torch.sin(phase) @ waves.imag.T
        return result

    @torch.no_grad()
    def recovered(self) -> dict[str, dict[str, float]]:
        """Return the unknown numbers with their standard deviations, and the misfit in units of the noise.

        The deviations are those of a Gaussian around the solution: the inverse of ``J^T J / noise^2 + 1``, J the derivative of the
        readings by the unknowns, widened where the misfit is larger than the noise.
        """
        z, rows, step = self.unknowns.z, [], 1e-2

        def readings(z: Tensor) -> Tensor:
            instance = self.unknowns.instance(z)
            windows = self.base.model.march(instance.state, instance.inputs, instance.parameters, self.base.windows)
            return self.at_sensors(list(windows))[self.known].double()

        for i in range(len(z)):
            shift = torch.zeros_like(z)
            shift[i] = step
            rows.append((readings(z + shift) - readings(z - shift)) / (2 * step))
        jacobian = torch.stack(rows, dim=1)
        covariance = torch.linalg.inv(jacobian.T @ jacobian / self.sensors.noise**2 + torch.eye(len(z), dtype=torch.float64))
        misfit = float((readings(z) - self.sensors.readings[self.known]).square().mean().sqrt()) / self.sensors.noise
        found = {}
        for i, name in enumerate(self.unknowns.names):
            value = float((self.unknowns.centre[i] + self.unknowns.width[i] * z[i].double()).exp())
            spread = float(self.unknowns.width[i] * covariance[i, i].sqrt()) * max(1.0, misfit)
            found[name] = {"value": value, "standard_deviation": value * spread, "misfit_over_noise": misfit}
        return found
