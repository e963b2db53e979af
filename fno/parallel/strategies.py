"""How the model of a training run is spread over processes: not at all, replicated, or sharded.

In every case each process computes the loss of its part of a batch, and gradients are those of the mean over
the whole batch, up to the order of summation.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from inspect import signature
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import SettingError
from .placement import Placement
from .processes import Processes

Kind = Literal["ddp", "fsdp"]
Tensors = dict[str, Tensor]

# Buffers are constants, which need not be sent in each forward pass. Older versions of PyTorch name the
# argument otherwise.
_NAMES = signature(DistributedDataParallel).parameters
_SYNCHRONISE = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"


class LossOf(Protocol):
    """What computes the loss of a batch, see ``fno.training.protocols.Objective``."""

    def loss(self, batch: Any, share: float, generator: torch.Generator) -> Any:
        """Return a loss with ``value`` and ``terms``."""

    def errors(self, batch: Any) -> Tensor:
        """Return the mean square errors of a validation batch."""


class Alone:
    """A model that one process trains.

    Args:
        model: model to train.
        objective: what it is trained to minimise.
    """

    processes = Processes()
    saves_alone = True
    """Whether a process has the whole tensors of the model without the others."""

    def __init__(self, model: nn.Module, objective: LossOf) -> None:
        self.model = model
        self.objective = objective

    def loss(self, batch: Any, share: float, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of this process's part of a batch, and the values of loss and terms for the log.

        Args:
            batch: part of a batch.
            share: completed fraction of the training.
            generator: source of random numbers.

        Returns:
            The scalar to differentiate, and means over the whole batch, with the loss as ``loss``.
        """
        loss = self.objective.loss(batch, share, generator)
        values = {name: term.item() for name, term in loss.terms.items()} | {"loss": loss.value.item()}
        return loss.value, values

    def errors(self, batch: Any) -> Tensor:
        """Return the mean square errors of a validation batch, see ``Objective``."""
        return self.objective.errors(batch)

    def whole(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return tensors with all their values, for a file; every process must call it."""
        return dict(tensors)

    def parts(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return this process's parts of the tensors of the model, the inverse of ``whole``."""
        return dict(tensors)

    def moment_parts(self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return this process's parts of the state of an optimizer, by ``number of the parameter.name``."""
        return dict(tensors)


class _Together(Alone):
    """Losses of parts of a batch, averaged over processes that each have a part.

    Args:
        model: model to train.
        objective: what it is trained to minimise.
        placement: part of the data that this process has. On latitude bands the objective is that of the
            whole grid, on every process.
    """

    def __init__(self, model: nn.Module, objective: LossOf, placement: Placement) -> None:
        super().__init__(model, objective)
        self.processes = placement.processes
        self.bands = placement.bands
        self.saves_alone = False
        for parameter in model.parameters():
            dist.broadcast(parameter.detach(), 0)

    def loss(self, batch: Any, share: float, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """Return the loss of this process's part of a batch; see ``Alone.loss``."""
        size = len(batch)
        total = self.processes.sums({"size": size})["size"]
        value, terms = self._loss(batch, share, generator)
        values = {name: term.item() for name, term in terms.items()} | {"loss": value.item()}
        means = self.processes.sums({name: v * size / total for name, v in values.items()})
        # Gradients are averaged over the processes, whose parts may differ in size, but add up over bands.
        weight = size * self.processes.count * self.bands / total
        return (value if weight == 1 else weight * value), means

    def _loss(
        self, batch: Any, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        loss = self.objective.loss(batch, share, generator)
        return loss.value, loss.terms


class Replicated(_Together):
    """A model of which each process has a copy, by ``DistributedDataParallel``.

    The forward pass of the wrapped module is that of the whole objective, so a rollout that calls the model
    several times is one pass.
    """

    def __init__(self, model: nn.Module, objective: LossOf, placement: Placement) -> None:
        super().__init__(model, objective, placement)
        self.saves_alone = placement.bands == 1
        device = next(model.parameters()).device
        options: dict[str, Any] = {_SYNCHRONISE: False}
        self._wrapped = DistributedDataParallel(
            _LossModule(model, objective),
            device_ids=[device] if device.type == "cuda" else None,
            init_sync=False,  # of buffers too, which differ between latitude bands
            **options,
        )

    def _loss(
        self, batch: Any, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        result: tuple[Tensor, Mapping[str, Tensor]] = self._wrapped(batch, share, generator)
        return result


class _LossModule(nn.Module):
    """An objective as a module that contains the model."""

    def __init__(self, model: nn.Module, objective: LossOf) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(
        self, batch: Any, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Return the loss and its terms."""
        loss = self.objective.loss(batch, share, generator)
        return loss.value, loss.terms


class Sharded(_Together):
    """A model whose parameters, gradients and moments are divided among the processes, by ``fully_shard``.

    The parameters of a block are gathered for its forward and backward pass. All are real: complex weights
    are stored as real pairs.

    Raises:
        SettingError: a parameter is complex.
    """

    def __init__(self, model: nn.Module, objective: LossOf, placement: Placement) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        super().__init__(model, objective, placement)
        if wrong := [name for name, p in model.named_parameters() if p.is_complex()]:
            raise SettingError(
                f"parallel must be 'ddp' for a model with complex parameters ({wrong[0]}), got 'fsdp'"
            )
        self._mesh = init_device_mesh(next(model.parameters()).device.type, (placement.processes.count,))
        for module in model.modules():
            if isinstance(blocks := getattr(module, "blocks", None), nn.ModuleList):
                for block in blocks:
                    fully_shard(block, mesh=self._mesh)
        fully_shard(model, mesh=self._mesh)

    def _loss(
        self, batch: Any, share: float, generator: torch.Generator
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        with _views_allowed():
            return super()._loss(batch, share, generator)

    def errors(self, batch: Any) -> Tensor:
        """Return the mean square errors of a validation batch."""
        with _views_allowed():
            return super().errors(batch)

    def whole(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return tensors with all their values; every process must call it."""
        return whole_tensors(tensors)

    def parts(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return this process's parts of the tensors of the model."""
        like = self.model.state_dict()
        return {name: _part(tensor, like[name]) for name, tensor in tensors.items()}

    def moment_parts(self, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> Tensors:
        """Return this process's parts of the state of an optimizer, by ``number of the parameter.name``."""
        like = [p for group in optimizer.param_groups for p in group["params"]]
        return {
            name: _part(tensor, like[int(name.split(".")[0])]) if tensor.ndim else tensor
            for name, tensor in tensors.items()
        }


@contextmanager
def _views_allowed() -> Iterator[None]:
    """Suppress a warning about blocks that return views, which no caller changes in place."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "FSDP2-wrapped module", UserWarning)
        yield


def whole_tensors(tensors: Mapping[str, Tensor]) -> Tensors:
    """Return tensors of a sharded model with all their values; every process must call it.

    Args:
        tensors: tensors by name, each of which may be sharded or not.
    """
    from torch.distributed.tensor import DTensor

    return {
        name: t.full_tensor() if isinstance(t, DTensor) else t  # type: ignore[no-untyped-call]
        for name, t in tensors.items()
    }


def _part(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a whole tensor divided as ``like`` is."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def spread(model: nn.Module, objective: LossOf, *, kind: str, placement: Placement) -> Alone:
    """Spread the training of a model over processes.

    Args:
        model: model to train, the same on every process; ``fsdp`` changes it in place.
        objective: what it is trained to minimise, which refers to the model.
        kind: ``ddp`` (each process has a copy) or ``fsdp`` (sharded).
        placement: part of the data that this process has.

    Raises:
        SettingError: a sharded model with complex parameters.
    """
    if placement.processes.count == 1:
        return Alone(model, objective)
    return (Sharded if kind == "fsdp" else Replicated)(model, objective, placement)


def check_together(count: int, *, kind: str, optimizer: str, accumulation: int, compiled: bool) -> None:
    """Check that a number of processes can train with some settings.

    Args:
        count: number of processes.
        kind: ``ddp`` or ``fsdp``.
        optimizer: name of the optimizer; others than AdamW need whole matrices.
        accumulation: number of parts of a batch whose gradients are added.
        compiled: whether networks are compiled.

    Raises:
        SettingError: they cannot.
    """
    if count == 1:
        return
    if kind == "fsdp" and optimizer != "adamw":
        raise SettingError(
            f"parallel must be 'ddp' with the optimizer {optimizer!r}, which needs whole matrices, got 'fsdp'"
        )
    if accumulation > 1:
        raise SettingError(
            f"accumulation must be 1 in {count} processes, which divide the batch already, got {accumulation}"
        )
    if compiled:
        raise SettingError(f"compile must be false in {count} processes, got true")
