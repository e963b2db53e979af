"""Training of a physics-informed network on one window of time."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ...errors import NonFiniteError
from ...layers.jets import Jet
from ...losses.weighting import WEIGHTINGS
from ...physics.equations import Problem
from ...random import Stream, torch_generator
from ..finite import check_gradient, check_tensors, list_names
from ..least_squares import LevenbergMarquardt
from .collocation import draw_points
from .jacobian import row_jacobian
from .settings import PinnLoss, PinnSettings

_LBFGS_ITERATIONS = 20  # per step of the optimizer, between which points and weights may change
_PROGRESS = ("iterations", "stage", "stage_start", "stage_done")


class JetNetwork(Protocol):
    """A coordinate network that computes its derivatives."""

    def jet(self, points: Tensor, orders: Mapping[str, int]) -> Jet:
        """Return value and derivatives at points, see ``CoordinateNetwork.jet``."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters, weight and bias of each layer in turn."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters with their names."""

    def state_dict(self) -> dict[str, Any]:
        """Return all tensors."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Restore what ``state_dict`` returned."""


class Window:
    """One window of time: its collocation points, its weighted residuals, and the optimizer.

    Args:
        problem: equation with its initial and boundary values.
        network: network to train.
        settings: training settings.
        interval: first and last time of the window.
        number: number of the window.
        loss: weights of the terms.
        previous: network of the window before, whose end is the initial state; None for the first window.
    """

    def __init__(
        self,
        problem: Problem,
        network: JetNetwork,
        settings: PinnSettings,
        *,
        interval: tuple[float, float],
        number: int,
        loss: PinnLoss,
        previous: JetNetwork | None,
    ) -> None:
        self.problem = problem
        self.network = network
        self.settings = settings
        self.loss = loss
        self.number = number
        start, stop = interval
        self.low = (start, problem.low)
        self.high = (stop, problem.high)
        self.iterations = 0
        self.stage = 1
        self.stage_start = 0
        self.stage_done = False
        self.since_draw = 0  # iterations of Adam and L-BFGS
        self.solver = LevenbergMarquardt()
        count = settings.initial_points
        x = torch.arange(count, dtype=torch.float64) / (count - (not problem.periodic))
        x = problem.low + (problem.high - problem.low) * x
        self.initial_points = torch.stack([torch.full_like(x, start), x], dim=1)
        with torch.no_grad():
            jet = previous.jet(self.initial_points, {"t": 1}) if previous else None
            self.initial_value = jet.value if jet else problem.initial(x)
            self.initial_speed = jet.derivatives["t", 1] if jet else torch.zeros_like(x)
        count = settings.boundary_points
        t = start + (stop - start) * torch.arange(count, dtype=torch.float64) / (count - 1 or 1)
        ends = torch.tensor([problem.low, problem.high], dtype=torch.float64)
        self.boundary_points = self.initial_points[:0] if problem.periodic else torch.cartesian_prod(t, ends)
        self.weighting = WEIGHTINGS[loss.weighting]()
        self.points = self.draw(0)
        self.emphasis = torch.ones(len(self.points), dtype=torch.float64)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and metadata, apart from the network, from which Gauss-Newton steps resume."""
        meta = {name: getattr(self, name) for name in _PROGRESS}
        meta |= {"damping": self.solver.damping, "weighting": self.weighting.state_dict()}
        return {"points": self.points, "emphasis": self.emphasis}, meta

    def restore(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
        """Restore what ``state`` returned.

        Raises:
            KeyError: an entry is missing.
            TypeError: an entry has the wrong type or shape, or is not finite.
        """
        for name in ("points", "emphasis"):
            current = getattr(self, name)
            if (tensors[name].dtype, tensors[name].shape) != (current.dtype, current.shape):
                raise TypeError(f"{name} of shape {tuple(tensors[name].shape)}")
        for name in _PROGRESS:
            if type(meta[name]) is not type(getattr(self, name)):
                raise TypeError(f"{name} is {str(meta[name])[:80]!r}")
        if not isinstance(meta["damping"], float) or not math.isfinite(meta["damping"]):
            raise TypeError(f"damping is {str(meta['damping'])[:80]!r}")
        self.weighting.load_state_dict(meta["weighting"])
        self.points = tensors["points"]
        self.emphasis = tensors["emphasis"]
        for name in _PROGRESS:
            setattr(self, name, meta[name])
        self.solver.damping = meta["damping"]

    def draw(self, iteration: int) -> Tensor:
        """Return the collocation points of an iteration."""
        return draw_points(
            self.settings.sampling,
            self.settings.points,
            low=self.low,
            high=self.high,
            generator=torch_generator(self.settings.seed, Stream.COLLOCATION, self.number, iteration),
            residual=self.residual,
        )

    def residual(self, points: Tensor) -> Tensor:
        """Return the residual of the equation at points."""
        with torch.no_grad():
            jet = self.network.jet(points, self.problem.orders)
            return self.problem.residual(jet.value, jet)

    def rows(self) -> tuple[Tensor, dict[str, Tensor], Any]:
        """Return the weighted rows of all terms, the terms in their own units, and the layers of the jet.

        The loss is the sum of squares of the weighted rows.
        """
        # Each row must be computed from a point of its own, so points with two rows appear twice.
        repeated = self.initial_points if self.problem.starts_at_rest else self.initial_points[:0]
        parts = (self.points, self.initial_points, repeated, self.boundary_points)
        sizes = [len(part) for part in parts]
        jet = self.network.jet(torch.cat(parts), self.problem.orders)
        u = jet.value.split(sizes)
        speed = jet.derivatives["t", 1].split(sizes)
        terms = {
            "residual": self.problem.residual(jet.value, jet)[: sizes[0]],
            "initial": u[1] - self.initial_value,
        }
        if len(repeated):
            terms["initial_speed"] = speed[2] - self.initial_speed
        if len(self.boundary_points):
            terms["boundary"] = u[3]
        rows = self.normalized(terms)
        rows["residual"] = rows["residual"] * self.emphasis.sqrt()
        weights = {
            "initial": self.loss.initial,
            "initial_speed": self.loss.initial,
            "boundary": self.loss.boundary,
        }
        adapted = self.weighting.terms()
        weighted = [
            row * math.sqrt(weights.get(name, 1.0) * adapted.get(name, 1.0)) for name, row in rows.items()
        ]
        return torch.cat(weighted), terms, jet.layers

    def normalized(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return rows whose sum of squares is the mean square of each term, with time measured in windows."""
        length = self.high[0] - self.low[0]
        unit = {"residual": length ** self.problem.orders["t"], "initial_speed": length}
        return {name: value * (unit.get(name, 1.0) / math.sqrt(len(value))) for name, value in terms.items()}

    def reweigh(self, iteration: int) -> None:
        """Update the weights of terms and points, if it is due at this iteration."""
        if self.loss.weighting == "fixed" or (iteration - 1) % self.loss.reweigh_every:
            return
        self.emphasis = torch.ones_like(self.emphasis)
        _, terms, layers = self.rows()
        rows = self.normalized(terms)
        sizes = [len(row) for row in rows.values()]
        jacobians = row_jacobian(torch.cat(list(rows.values())), layers).split(sizes)
        detached = {name: row.detach() for name, row in rows.items()}
        self.weighting.update(detached, dict(zip(rows, jacobians, strict=True)))
        times = (self.points[:, 0] - self.low[0]) / (self.high[0] - self.low[0])
        self.emphasis = self.weighting.points(detached["residual"], times)

    def train(self) -> Iterator[tuple[int, dict[str, float]]]:
        """Train through the stages of the curriculum; yield iterations and root mean squares of the terms."""
        problem = self.problem
        settings = self.settings
        for stage in range(self.stage + self.stage_done, settings.curriculum_stages + 1):
            if stage != self.stage:
                self.stage = stage
                self.stage_start = self.iterations
                self.stage_done = False
                self.solver = LevenbergMarquardt()
            share = stage / settings.curriculum_stages
            coefficients = dict(problem.coefficients)
            for name, first in settings.curriculum.items():
                coefficients[name] = first + (problem.coefficients[name] - first) * share
            self.problem = replace(problem, coefficients=coefficients)
            yield from self._gauss_newton() if settings.optimizer == "gauss_newton" else self._adam_lbfgs()

    def verify(self) -> tuple[float, float]:
        """Return the root mean square of the residual at the collocation points and at held-out points."""
        held_out_points = draw_points(
            "uniform",
            4 * self.settings.points,
            low=self.low,
            high=self.high,
            generator=torch_generator(self.settings.seed, Stream.HELD_OUT_POINTS, self.number),
            residual=self.residual,
        )
        residual = self.residual(self.points)
        held_out = self.residual(held_out_points)
        self.check({"residual": residual, "held-out residual": held_out}, self.iterations)
        return _rms(residual), _rms(held_out)

    def _gauss_newton(self) -> Iterator[tuple[int, dict[str, float]]]:
        settings = self.settings
        parameters = parameters_to_vector(self.network.parameters()).detach()

        def loss(new: Tensor) -> float:
            with torch.no_grad():
                vector_to_parameters(new, self.network.parameters())
                return float(self.rows()[0].square().sum())

        for iteration in range(self.iterations + 1, self.stage_start + settings.iterations + 1):
            every = settings.resample_every
            if every and iteration > 1 and (iteration - 1) % every == 0:
                self.points = self.draw(iteration)
            self.reweigh(iteration)
            rows, terms, layers = self.rows()
            self.check(terms | {"weighted residual": rows}, iteration)
            jacobian = row_jacobian(rows, layers)
            self.check_jacobian(jacobian, iteration)
            parameters, improved = self.solver.step(parameters, rows.detach(), jacobian, loss=loss)
            vector_to_parameters(parameters, self.network.parameters())
            self.iterations = iteration
            solved = float(rows.detach().square().sum()) < settings.tolerance**2
            self.stage_done = solved or not (improved or every)
            yield iteration, {name: _rms(value.detach()) for name, value in terms.items()}
            if self.stage_done:
                break

    def _adam_lbfgs(self) -> Iterator[tuple[int, dict[str, float]]]:
        settings = self.settings
        adam = torch.optim.Adam(self.network.parameters(), lr=settings.learning_rate)
        lbfgs = torch.optim.LBFGS(
            self.network.parameters(),
            max_iter=_LBFGS_ITERATIONS,
            history_size=50,
            line_search_fn="strong_wolfe",
        )
        checked = 0

        def closure() -> Tensor:
            nonlocal checked
            for p in self.network.parameters():
                p.grad = None
            rows, terms, _ = self.rows()
            loss = rows.square().sum()
            loss.backward()
            # The first call of a step is at the accepted weights, later ones are at trial steps.
            if checked < iteration:
                checked = iteration
                self.check(terms | {"weighted residual": rows}, iteration)
                check_gradient(self.network.named_parameters(), f"in {self.position(iteration)}")
            return loss

        steps = settings.adam_steps + math.ceil(settings.lbfgs_steps / _LBFGS_ITERATIONS)
        for step in range(steps):
            iteration = self.iterations + 1
            first_order = step < settings.adam_steps
            remaining = settings.lbfgs_steps - _LBFGS_ITERATIONS * (step - settings.adam_steps)
            length = 1 if first_order else min(_LBFGS_ITERATIONS, remaining)
            if 0 < settings.resample_every <= self.since_draw:
                self.points = self.draw(iteration)
                self.since_draw = 0
            self.reweigh(iteration)
            lbfgs.param_groups[0]["max_iter"] = length
            (adam if first_order else lbfgs).step(closure)
            check_tensors(self.network.state_dict(), "weights", f"after {self.position(iteration)}")
            self.iterations = iteration
            self.since_draw += length
            if iteration % 50 == 0 or not first_order or step == steps - 1:
                with torch.no_grad():
                    terms = self.rows()[1]
                self.check(terms, iteration)
                yield iteration, {name: _rms(value) for name, value in terms.items()}

    def check(self, terms: dict[str, Tensor], iteration: int) -> None:
        """Check that all terms are finite.

        Args:
            terms: values by name.
            iteration: iteration, for the message.

        Raises:
            NonFiniteError: a term is not finite.
        """
        for name, value in terms.items():
            if not torch.isfinite(value).all():
                raise self._non_finite(name, iteration)

    def check_jacobian(self, jacobian: Tensor, iteration: int) -> None:
        """Check that the Jacobian is finite.

        Otherwise no Gauss-Newton step would lower the loss, which would end the window as if it had
        converged.

        Args:
            jacobian: gradients of the rows, shape (row, parameter).
            iteration: iteration, for the message.

        Raises:
            NonFiniteError: an entry is not finite; the message names its parameters.
        """
        if not torch.isfinite(jacobian).all():
            sizes = [p.numel() for p in self.network.parameters()]
            parts = zip(self.network.named_parameters(), jacobian.split(sizes, dim=1), strict=True)
            names = [name for (name, _), part in parts if not torch.isfinite(part).all()]
            raise self._non_finite(f"the gradient of {list_names(names)}", iteration)

    def position(self, iteration: int) -> str:
        """Describe an iteration for a message."""
        return f"iteration {iteration} of window {self.number + 1}"

    def _non_finite(self, name: str, iteration: int) -> NonFiniteError:
        return NonFiniteError(
            f"{name} is not finite in {self.position(iteration)}; finished windows are kept: use more windows"
        )


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
