"""Base classes of models: checks of their input, fitting to a grid, weights, constants in full precision."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from ..errors import InputError, ResolutionWarning, WeightsError
from ..grids import Grid
from ..layers.local import FiniteDifference
from ..precision import autocasts, require_real
from ..weights.blueprint import compare


@dataclass(frozen=True)
class Clipping:
    """An option that a grid cannot resolve and that was reduced.

    Attributes:
        name: name of the option, such as ``n_modes``.
        requested: requested values.
        used: values that the model has.
    """

    name: str
    requested: tuple[int, ...]
    used: tuple[int, ...]


def clip(
    name: str, requested: Sequence[int], largest: Sequence[int]
) -> tuple[tuple[int, ...], list[Clipping]]:
    """Return the requested values limited to the largest possible ones, and what was reduced.

    Args:
        name: name of the option.
        requested: requested values.
        largest: largest possible values.
    """
    used = tuple(min(r, most) for r, most in zip(requested, largest, strict=True))
    return used, [] if used == tuple(requested) else [Clipping(name, tuple(requested), used)]


def summary(module: nn.Module, description: str, children: Iterable[nn.Module] = ()) -> str:
    """Return a short text for ``print``: type, description, number of parameters, and selected children.

    Args:
        module: module to describe.
        description: its dimensions and options.
        children: modules whose own description follows, indented.
    """
    count = sum(p.numel() for p in module.parameters())
    head = f"{type(module).__name__}({description}{', ' if description else ''}{count:,} parameters"
    inner = "".join(f"\n  {line}" for child in children for line in repr(child).splitlines())
    return f"{head}){':' if inner else ''}{inner}"


class GridModel(nn.Module):
    """Base class of models that map fields on a grid to fields on the same grid.

    A subclass can override ``fit_options`` and ``output_layer``, which ``for_grid`` uses, and be registered
    under a name, see ``fno.models.registry``. With ``FOURCASTER_DEBUG`` set in the environment, inputs that
    are not finite are rejected.

    Args:
        in_channels: channels of the input.
        dimensions: number of grid dimensions.

    Attributes:
        layers_option: name of the constructor's argument with the number of layers.
        trained_sizes: grids (points along each dimension) that the model was trained on.
    """

    layers_option: ClassVar[str] = "n_layers"

    def __init__(self, in_channels: int, dimensions: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.dimensions = dimensions
        self.trained_sizes: set[tuple[int, ...]] = set()

    def __repr__(self) -> str:
        return summary(self, self.extra_repr())

    @classmethod
    def for_grid(
        cls, grid: Grid, in_channels: int, out_channels: int, **options: Any
    ) -> tuple[Self, list[Clipping]]:
        """Build a model whose options are fitted to a grid and whose last layer is zero.

        Args:
            grid: grid of the training data.
            in_channels: channels of the input.
            out_channels: channels of the output.
            **options: further arguments of the constructor.

        Returns:
            The model, and the options that were reduced because the grid cannot resolve them.

        Raises:
            ValueError: a model that cannot run on this grid.
        """
        fitted, clipped = cls.fit_options(grid, options)
        constructor: Any = cls  # subclasses have other arguments
        model: Self = constructor(in_channels=in_channels, out_channels=out_channels, **fitted)
        if model.output_layer is not None:
            for parameter in model.output_layer.parameters(recurse=False):
                nn.init.zeros_(parameter)
        return model, clipped

    @classmethod
    def fit_options(cls, grid: Grid, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[Clipping]]:
        """Return the constructor's arguments for a grid, except for the channels, and what was reduced.

        By default these are the options as they are.

        Args:
            grid: grid of the training data.
            options: requested arguments of the constructor.
        """
        return dict(options), []

    @property
    def output_layer(self) -> nn.Module | None:
        """The last layer, whose parameters ``for_grid`` sets to zero; None if there is none."""
        return None

    @classmethod
    def count_layers(cls, options: Mapping[str, Any]) -> Any:
        """Return the number of layers among the constructor's arguments, unchecked; 1 if not specified."""
        return options.get(cls.layers_option, 1)

    def check(self, x: Tensor) -> None:
        """Check an input; warn if its grid lies outside those of training.

        Raises:
            InputError: wrong rank or number of channels, complex values, a dtype other than that of the
                weights, or (in debug mode) values that are not finite.
        """
        if x.ndim != self.dimensions + 2 or x.shape[1] != self.in_channels:
            shape = ", ".join(["batch", str(self.in_channels), *["n"] * self.dimensions])
            raise InputError(f"expected a tensor of shape ({shape}), got {tuple(x.shape)}")
        check_dtype(self, x)
        if torch.compiler.is_compiling():
            return
        if os.environ.get("FOURCASTER_DEBUG") and not torch.isfinite(x).all():
            channel = int((~torch.isfinite(x)).flatten(2).any(-1).any(0).nonzero()[0])
            raise InputError(
                f"the input is not finite: channel {channel} contains NaN or infinity; fill or mask it first"
            )
        size = tuple(int(n) for n in x.shape[2:])
        if self.training:
            self.trained_sizes.add(size)
        elif self.trained_sizes:
            low, high = ([f(s[d] for s in self.trained_sizes) for d in range(len(size))] for f in (min, max))
            if any(not a <= n <= b for n, a, b in zip(size, low, high, strict=True)):
                trained = " to ".join(str(tuple(s)) for s in ([low] if low == high else [low, high]))
                message = (
                    f"a grid of {size} points lies outside what the model was trained on, {trained}; "
                    "compare with interpolating its forecast there"
                )
                warnings.warn(message, ResolutionWarning, stacklevel=3)


def weights_dtype(network: nn.Module, default: torch.dtype) -> torch.dtype:
    """Return the dtype of a network's weights, or ``default`` if it has none."""
    weight = next(network.parameters(), None)
    return weight.dtype if weight is not None and weight.is_floating_point() else default


def check_dtype(network: nn.Module, x: Tensor) -> None:
    """Check that a tensor has the dtype of the weights, or one that autocast converts.

    Raises:
        InputError: complex values, or another dtype.
    """
    require_real(x)
    expected = weights_dtype(network, x.dtype)
    casts = autocasts(x) and {x.dtype, expected} <= {
        torch.float32,
        torch.bfloat16,
        torch.float16,
    }
    if x.dtype != expected and not casts:
        raise InputError(
            f"expected a tensor of {expected}, the type of the weights, got {x.dtype}; "
            f"convert it with x.to({expected})"
        )


class PreciseConstants(nn.Module):
    """Module whose own buffers, such as means and scales in physical units, keep at least float32 precision.

    Half precision would round 288 K to within 1 K, and its largest number is 65504.
    """

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in self.named_buffers(recurse=False):
            if buffer.dtype in (torch.float16, torch.bfloat16):
                self._buffers[name] = before[name].to(buffer.device)
        return self


def mark_trained(network: nn.Module, size: tuple[int, ...]) -> None:
    """Record for every model in a network that it was trained on a grid of this size.

    Args:
        network: module that is or contains the models.
        size: points along each dimension.
    """
    for module in network.modules():
        if isinstance(module, GridModel):
            module.trained_sizes = {tuple(size)}


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Load weights into a model.

    Args:
        model: model to load into.
        tensors: exactly its parameters and buffers, by name.
        source: name of the source, for errors.

    Raises:
        WeightsError: the weights do not fit (missing and unknown ones and those of another shape are listed)
            or are not finite; none was loaded.
    """
    compare(model, tensors, source)
    for name, module in model.named_modules():
        if isinstance(module, FiniteDifference):
            tensors = module.upgraded(tensors, f"{name}.")
    types = {name: t.dtype for name, t in model.state_dict().items()}
    if not_finite := [name for name, t in tensors.items() if not _all_finite(t.to(types[name]))]:
        raise WeightsError(
            f"{source} has weights that are not finite: {'; '.join(not_finite[:3])}; "
            "train again, or use another checkpoint"
        )
    model.load_state_dict(dict(tensors))


def _all_finite(t: Tensor) -> bool:
    # The sum is much faster than testing each value, and finite unless a value is not or the sum overflows.
    return bool(torch.isfinite(t.sum())) or bool(torch.isfinite(t).all())
