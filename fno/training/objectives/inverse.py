"""Inverse problems: the unknown coefficients and initial state of an equation from sensors.

The unknowns are functions of variables z with a standard normal prior. The most probable z minimises the
negative logarithm of the posterior density, up to a constant

    1/2 |(u(z; x_i, t_j) - s_ij) / noise|^2 + 1/2 |z|^2

with the solution u at the sensors and the readings s. ``infer`` minimises it for any solver.

``InverseObjective`` trains a solution operator at the same time. While the operator is trained on
simulations, z is inferred at every tenth of the training from ``FIRST`` on. In between, the operator is also
trained on the residual of the equation for samples of the posterior, so that it becomes exact where the
answer lies. (An operator trained to agree with the sensors would itself explain part of what the coefficients
should explain, and so does an initial state found by gradient descent.)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...batch import Instances
from ...errors import NonFiniteError
from ..least_squares import difference_jacobian, least_squares
from ..protocols import Loss
from .operator import EvolutionObjective
from .priors import CoefficientPrior, SpectralPrior, fit_prior
from .sensors import Sensors

FIRST = 0.5  # fraction of the training before the first inference
SAMPLES = 8  # samples of the posterior per training step
POOR_MISFIT = 1.2  # in units of the noise; above it, other starts are tried


@dataclass(frozen=True)
class Estimate:
    """An inferred coefficient.

    Attributes:
        value: most probable value.
        standard_deviation: standard deviation of the posterior.
        misfit_over_noise: root mean square of the misfit at the sensors, in units of the noise.
    """

    value: float
    standard_deviation: float
    misfit_over_noise: float


class LatentParameters(nn.Module):
    """The unknown coefficients and initial state of an equation on a periodic box, and their posterior.

    Args:
        initial_state: prior of the initial state.
        coefficients: priors of the unknown coefficients by name.

    Attributes:
        z: most probable standard normal variables: coefficients, then the modes of the initial state.
        factor: square root of the covariance of z.
        tenths: progress of the training at the last inference, in tenths.
    """

    z: Tensor
    factor: Tensor
    tenths: Tensor

    def __init__(
        self, initial_state: SpectralPrior, coefficients: Mapping[str, CoefficientPrior] | None = None
    ) -> None:
        super().__init__()
        self.initial_state = initial_state
        self.coefficients = dict(coefficients or {})
        count = len(self.coefficients) + initial_state.unknowns
        self.register_buffer("z", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("factor", torch.zeros(count, count, dtype=torch.float64))
        self.register_buffer("tenths", torch.zeros(()))

    @classmethod
    def from_simulations(
        cls, states: Tensor, coefficients: Mapping[str, Tensor], modes: int | None = None
    ) -> "LatentParameters":
        """Return unknowns whose priors are fitted to simulations.

        Args:
            states: initial states, shape (sample, field, *grid).
            coefficients: coefficients by name, each of shape (sample,).
            modes: as for ``SpectralPrior.fit``.
        """
        priors = {name: fit_prior(values) for name, values in coefficients.items()}
        return cls(SpectralPrior.fit(states, modes), priors)

    def sample(self, count: int, generator: torch.Generator) -> Instances:
        """Return samples of the posterior.

        Args:
            count: number of samples.
            generator: source of random numbers, on the CPU.
        """
        normal = torch.randn(count, len(self.z), generator=generator, dtype=self.z.dtype)
        return self.instances(self.z + normal @ self.factor.mT)

    def instances(self, z: Tensor) -> Instances:
        """Return instances of the equation for standard normal variables of shape (batch, unknown)."""
        z = z.double()
        count = len(self.coefficients)
        state = self.initial_state.transform(z[:, count:]).float()
        coefficients = {
            name: prior.transform(z[:, i]).float()
            for i, (name, prior) in enumerate(self.coefficients.items())
        }
        return Instances(state, state.new_zeros(len(z), 0, *state.shape[2:]), coefficients)

    def in_the_tails(self) -> list[str]:
        """Return the coefficients more than two standard deviations from the middle of their priors.

        There a bounded prior is within 2.3 % of an end of its interval.
        """
        return [name for name, z in zip(self.coefficients, self.z.tolist(), strict=False) if abs(z) > 2]

    def estimates(self, misfit: float) -> dict[str, Estimate]:
        """Return the coefficients with their standard deviations, to first order in the covariance of z.

        Args:
            misfit: misfit in units of the noise, to be reported.
        """
        result = {}
        for i, (name, prior) in enumerate(self.coefficients.items()):
            with torch.enable_grad():
                z = self.z[i].clone().requires_grad_()
                value = prior.transform(z)
                slope = float(torch.autograd.grad(value, z)[0])
            deviation = abs(slope) * float(self.factor[i].norm())
            result[name] = Estimate(float(value), deviation, misfit)
        return result


@torch.no_grad()
def infer(
    latent: LatentParameters,
    sensors: Sensors,
    observe: Callable[[Instances], Tensor],
    *,
    steps: int = 40,
) -> dict[str, Estimate]:
    """Infer the unknowns of an equation from sensors, store their posterior, and return the coefficients.

    Gauss-Newton steps start from the middle of the prior, with derivatives by differences. If they end at a
    misfit that the noise does not explain, they are repeated with each coefficient one standard deviation
    below and above the middle, and the most probable end is taken. The posterior is
    approximated by a Gaussian with the covariance ``(J^T J / noise^2 + I)^-1``, where J is the derivative of
    the solution at the sensors with respect to z. It is widened by the misfit in units of the noise where
    that exceeds one. It does not include the error of the solver.

    Args:
        latent: unknowns; their posterior is overwritten.
        sensors: readings.
        observe: solver that returns the solution at the sensors for a batch of instances, shape (batch,
            field, sensor, time).
        steps: largest number of Gauss-Newton steps.

    Raises:
        NonFiniteError: the solution at the sensors is not finite; the posterior is left as it was.
    """
    known = sensors.known
    noise = torch.as_tensor(sensors.noise).double().expand(known.shape)[known]
    readings = sensors.readings[known].double()
    identity = torch.eye(len(latent.z), dtype=torch.float64)

    def misfits(z: Tensor) -> Tensor:
        """Return the misfit of each reading in units of the noise, for z of shape (batch, unknown)."""
        return (observe(latent.instances(z)).cpu()[:, known].double() - readings) / noise

    def residuals(z: Tensor) -> Tensor:
        """Return residuals whose half sum of squares is the negative log posterior."""
        return torch.cat([misfits(z[None])[0], z])

    def jacobian(z: Tensor) -> Tensor:
        return torch.cat([difference_jacobian(misfits, z), identity])

    def misfit_of(z: Tensor) -> float:
        return float(misfits(z[None]).square().mean().sqrt())

    try:
        z = least_squares(residuals, jacobian, torch.zeros_like(latent.z), steps=steps)
        if misfit_of(z) > POOR_MISFIT:
            starts = identity[: len(latent.coefficients)]
            others = [least_squares(residuals, jacobian, start, steps=steps) for start in (*-starts, *starts)]
            z = min((z, *others), key=lambda end: float(residuals(end).square().sum()))
    except NonFiniteError as error:
        raise NonFiniteError(
            "the solution at the sensors, or its derivative with respect to the unknowns, is not finite"
        ) from error
    j = jacobian(z)
    factor = torch.linalg.cholesky(torch.linalg.inv(j.T @ j))
    misfit = misfit_of(z)
    latent.z.copy_(z)
    latent.factor.copy_(factor * max(1.0, misfit))
    return latent.estimates(misfit)


class InverseObjective:
    """The objective of a solution operator on simulations and on the posterior of an inverse problem.

    Args:
        base: objective on simulations.
        latent: unknowns of the inverse problem.
        sensors: readings.
        weight: weight of the residual of the equation at samples of the posterior; if it is zero, the
            operator is trained on simulations alone.
    """

    def __init__(
        self, base: EvolutionObjective, latent: LatentParameters, sensors: Sensors, *, weight: float
    ) -> None:
        self.base = base
        self.latent = latent
        self.sensors = sensors
        self.weight = weight

    def loss(self, batch: Instances, share: float, generator: torch.Generator) -> Loss:
        """Return the loss of a batch of simulations; arguments as for ``Objective``."""
        base = self.base.loss(batch, share, generator)
        if share < FIRST:
            return base
        tenths = math.floor(10 * share + 1e-9)
        if tenths > float(self.latent.tenths):
            self.recover()
            self.latent.tenths.fill_(tenths)
        estimate = self.latent.instances(self.latent.z[None]).parameters
        terms = {**base.terms, **{name: t[0] for name, t in estimate.items()}}
        if not self.weight:
            return Loss(base.value, terms)
        samples = self.latent.sample(SAMPLES, generator).to(str(batch.state.device))
        count = self.base.windows
        starts = self.base.window_starts(samples, count)
        coefficients = {name: t.repeat(count) for name, t in samples.parameters.items()}
        inputs = samples.inputs.repeat(count, *[1] * (samples.inputs.ndim - 1))
        residual, scaled = self.base.residuals(self.base.model(starts, inputs, coefficients), coefficients)
        size = (scaled.square().mean() / self.base.model.solution.square().mean()).sqrt()
        terms["experiment"] = residual.square().mean().sqrt()
        return Loss(base.value + self.weight * size, terms)

    def errors(self, batch: Instances) -> Tensor:
        """Return the errors on simulations; see ``EvolutionObjective``."""
        return self.base.errors(batch)

    def recover(self) -> dict[str, Estimate]:
        """Infer the unknowns with the operator in its current state; see ``infer``."""
        return infer(self.latent, self.sensors, self._observe)

    def _observe(self, instances: Instances) -> Tensor:
        model = self.base.model
        instances = instances.to(str(model.solution.device))
        windows = model.integrate_windows(
            instances.state, instances.inputs, instances.parameters, windows=self.base.windows
        )
        return self.sensors.observe(windows, model.window)
