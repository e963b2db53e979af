"""One window of time of a physics-informed network in training: its points, the rows of its least squares,
and its steps.
"""

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
from ..finite import check_gradient, check_tensors, listed
from .collocation import draw_points
from .least_squares import GaussNewton, row_jacobian
from .settings import PinnLoss, PinnSettings

_PROGRESS = ("iterations", "stage", "stage_start", "stage_done")


class JetNetwork(Protocol):
    """What training asks of a network of coordinates."""

    def jet(self, points: Tensor, orders: Mapping[str, int]) -> Jet:
        """Return value and derivatives at points."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters, weight and bias of each layer in turn."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the same with their names."""

    def state_dict(self) -> dict[str, Any]:
        """Return all tensors."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take up what ``state_dict`` gave."""


class Window:
    """One window of time: its points, the rows of its least squares, and the ways to make them small."""

    def __init__(
        self,
        problem: Problem,
        network: JetNetwork,
        start: float,
        stop: float,
        number: int,
        settings: PinnSettings,
        loss: PinnLoss,
        before: JetNetwork | None,
    ) -> None:
        self.problem, self.network, self.settings, self.loss, self.number = (
            problem,
            network,
            settings,
            loss,
            number,
        )
        self.low, self.high = (start, problem.low), (stop, problem.high)
        self.iterations, self.stage, self.stage_start, self.stage_done = 0, 1, 0, False
        self.solver = GaussNewton()
        s, ends = settings, torch.tensor([problem.low, problem.high], dtype=torch.float64)
        x = torch.arange(s.initial_points, dtype=torch.float64) / (s.initial_points - (not problem.periodic))
        x = problem.low + (problem.high - problem.low) * x
        self.first = torch.stack([torch.full_like(x, start), x], dim=1)
        with torch.no_grad():
            jet = before.jet(self.first, {"t": 1}) if before else None
            self.target = jet.value if jet else problem.initial(x)
            self.target_speed = jet.derivatives["t", 1] if jet else torch.zeros_like(x)
        t = start + (stop - start) * torch.arange(s.boundary_points, dtype=torch.float64) / (
            s.boundary_points - 1 or 1
        )
        self.ends = torch.cartesian_prod(t, ends) if not problem.periodic else self.first[:0]
        self.weighting = WEIGHTINGS[loss.weighting]()
        self.points = self.draw(0)
        self.emphasis = torch.ones(len(self.points), dtype=torch.float64)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what Gauss-Newton steps go on from, besides the network."""
        about = {name: getattr(self, name) for name in _PROGRESS}
        about |= {"damping": self.solver.damping, "weighting": self.weighting.state_dict()}
        return {"points": self.points, "emphasis": self.emphasis}, about

    def restore(self, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
        """Take up what ``state`` gave."""
        for name in ("points", "emphasis"):
            if (tensors[name].dtype, tensors[name].shape) != (
                getattr(self, name).dtype,
                getattr(self, name).shape,
            ):
                raise TypeError(f"{name} of shape {tuple(tensors[name].shape)}")
        for name in _PROGRESS:
            if type(about[name]) is not type(getattr(self, name)):
                raise TypeError(f"{name} is {str(about[name])[:80]!r}")
        if not isinstance(about["damping"], float) or not math.isfinite(about["damping"]):
            raise TypeError(f"damping is {str(about['damping'])[:80]!r}")
        self.points, self.emphasis = tensors["points"], tensors["emphasis"]
        for name in _PROGRESS:
            setattr(self, name, about[name])
        self.solver.damping = about["damping"]
        self.weighting.load_state_dict(about["weighting"])

    def draw(self, iteration: int) -> Tensor:
        """Return the points of an iteration."""
        generator = torch.Generator().manual_seed(hash((self.settings.seed, self.number, iteration)) % 2**63)
        return draw_points(
            self.settings.sampling, self.settings.points, self.low, self.high, generator, self.residual
        )

    def residual(self, points: Tensor) -> Tensor:
        """Return the residual of the equation at points."""
        with torch.no_grad():
            jet = self.network.jet(points, self.problem.orders)
            return self.problem.residual(jet.value, jet)

    def rows(self) -> tuple[Tensor, dict[str, Tensor], Any]:
        """Return the weighted rows, the terms in their own units, and the layers."""
        # A row is computed from one point alone, so those that give two rows are taken twice.
        again = self.first if self.problem.starts_at_rest else self.first[:0]
        sizes = [len(part) for part in (self.points, self.first, again, self.ends)]
        jet = self.network.jet(torch.cat([self.points, self.first, again, self.ends]), self.problem.orders)
        u, slope = jet.value.split(sizes), jet.derivatives["t", 1].split(sizes)
        terms = {"residual": self.problem.residual(jet.value, jet)[: sizes[0]], "initial": u[1] - self.target}
        if len(again):
            terms["initial_speed"] = slope[2] - self.target_speed
        if len(self.ends):
            terms["boundary"] = u[3]
        rows, adapted = self.unweighted(terms), self.weighting.terms()
        weight = {
            "initial": self.loss.initial,
            "initial_speed": self.loss.initial,
            "boundary": self.loss.boundary,
        }
        rows["residual"] = rows["residual"] * self.emphasis.sqrt()
        return (
            torch.cat(
                [r * math.sqrt(weight.get(name, 1.0) * adapted.get(name, 1.0)) for name, r in rows.items()]
            ),
            terms,
            jet.layers,
        )

    def unweighted(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return rows whose squares add up to the mean square of each term, time being measured in windows."""
        length = self.high[0] - self.low[0]
        unit = {"residual": length ** self.problem.orders["t"], "initial_speed": length}
        return {name: value * (unit.get(name, 1.0) / math.sqrt(len(value))) for name, value in terms.items()}

    def reweigh(self, iteration: int) -> None:
        """Let the weighting look at the terms, where it is time."""
        if self.loss.weighting == "fixed" or (iteration - 1) % self.loss.reweigh_every:
            return
        self.emphasis = torch.ones_like(self.emphasis)
        _, terms, layers = self.rows()
        parts = self.unweighted(terms)
        jacobian = row_jacobian(torch.cat(list(parts.values())), layers).split(
            [len(r) for r in parts.values()]
        )
        self.weighting.update(
            {name: r.detach() for name, r in parts.items()}, dict(zip(parts, jacobian, strict=True))
        )
        share = (self.points[:, 0] - self.low[0]) / (self.high[0] - self.low[0])
        self.emphasis = self.weighting.points(parts["residual"].detach(), share)

    def train(self) -> Any:
        """Train, stage by stage of the curriculum, and yield (iteration, terms as root mean squares)."""
        whole, s = self.problem, self.settings
        for stage in range(self.stage + self.stage_done, s.curriculum_stages + 1):
            if stage != self.stage:
                self.stage, self.stage_start, self.stage_done = stage, self.iterations, False
                self.solver = GaussNewton()
            share = stage / s.curriculum_stages
            now = {
                name: first + (whole.coefficients[name] - first) * share
                for name, first in s.curriculum.items()
            }
            self.problem = replace(whole, coefficients={**whole.coefficients, **now})
            yield from self._gauss_newton() if s.optimizer == "gauss_newton" else self._adam_lbfgs()

    def verify(self) -> tuple[float, float]:
        """Return the root mean square of the residual at the points trained on last, and at others."""
        generator = torch.Generator().manual_seed(hash((self.settings.seed, self.number, -1)) % 2**63)
        others = draw_points(
            "uniform", 4 * self.settings.points, self.low, self.high, generator, self.residual
        )
        residual, held_out = self.residual(self.points), self.residual(others)
        self.check({"residual": residual, "held-out residual": held_out}, self.iterations)
        return _rms(residual), _rms(held_out)

    def _gauss_newton(self) -> Any:
        s = self.settings
        parameters = parameters_to_vector(self.network.parameters()).detach()

        def squares(new: Tensor) -> float:
            with torch.no_grad():
                vector_to_parameters(new, self.network.parameters())
                return float(self.rows()[0].square().sum())

        for iteration in range(self.iterations + 1, self.stage_start + s.iterations + 1):
            if s.resample_every and iteration > 1 and (iteration - 1) % s.resample_every == 0:
                self.points = self.draw(iteration)
            self.reweigh(iteration)
            rows, terms, layers = self.rows()
            self.check(terms | {"weighted residual": rows}, iteration)
            jacobian = row_jacobian(rows, layers)
            self.check_jacobian(jacobian, iteration)
            parameters, better = self.solver.step(parameters, rows.detach(), jacobian, squares)
            vector_to_parameters(parameters, self.network.parameters())
            self.iterations = iteration
            solved = float(rows.detach().square().sum()) < s.tolerance**2
            self.stage_done = solved or (not better and not s.resample_every)
            yield iteration, {name: _rms(value.detach()) for name, value in terms.items()}
            if self.stage_done:
                break

    def _adam_lbfgs(self) -> Any:
        s = self.settings
        adam = torch.optim.Adam(self.network.parameters(), lr=s.learning_rate)
        lbfgs = torch.optim.LBFGS(
            self.network.parameters(), max_iter=20, history_size=50, line_search_fn="strong_wolfe"
        )

        checked = 0

        def closure() -> Tensor:
            nonlocal checked
            for p in self.network.parameters():
                p.grad = None
            rows, terms, _ = self.rows()
            loss = rows.square().sum()
            loss.backward()
            if (
                checked < iteration
            ):  # the first call of a step is at the weights that were accepted, later ones at trial steps
                checked = iteration
                self.check(terms | {"weighted residual": rows}, iteration)
                check_gradient(self.network.named_parameters(), f"in {self.where(iteration)}")
            return loss

        before = self.iterations
        for iteration in range(before + 1, before + s.adam_steps + s.lbfgs_steps // 20 + 1):
            first = iteration <= before + s.adam_steps
            if (
                s.resample_every
                and iteration > 1
                and (iteration - 1) % (s.resample_every if first else 1) == 0
            ):
                self.points = self.draw(iteration)
            self.reweigh(iteration)
            (adam if first else lbfgs).step(closure)
            check_tensors(self.network.state_dict(), "weights", f"after {self.where(iteration)}")
            self.iterations = iteration
            if iteration % 50 == 0 or not first:
                with torch.no_grad():
                    terms = self.rows()[1]
                self.check(terms, iteration)
                yield iteration, {name: _rms(value) for name, value in terms.items()}

    def check(self, terms: dict[str, Tensor], iteration: int) -> None:
        """Refuse values that are not finite."""
        for name, value in terms.items():
            if not torch.isfinite(value).all():
                raise NonFiniteError(
                    f"{name} is not finite in {self.where(iteration)}; finished windows are kept: use more of them"
                )

    def check_jacobian(self, jacobian: Tensor, iteration: int) -> None:
        """Refuse derivatives of the rows that are not finite; a Gauss-Newton step would find no better point
        and end the window.
        """
        if not torch.isfinite(jacobian).all():
            sizes = [p.numel() for p in self.network.parameters()]
            parts = zip(self.network.named_parameters(), jacobian.split(sizes, dim=1), strict=True)
            names = [name for (name, _), part in parts if not torch.isfinite(part).all()]
            raise NonFiniteError(
                f"the gradient of {listed(names)} is not finite in {self.where(iteration)}; finished windows are kept: use more of them"
            )

    def where(self, iteration: int) -> str:
        """Return an iteration in words."""
        return f"iteration {iteration} of window {self.number + 1}"


def _rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())
