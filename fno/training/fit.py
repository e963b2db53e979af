"""Train any network on any iterable of batches."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import InputError
from ..progress import Progress
from .iterables import Batches, IterableBatches
from .loop import TrainingRecord, train
from .objectives.supervised import Criterion, Predict, SupervisedObjective
from .settings import TrainSettings, identifying


def fit(
    model: nn.Module,
    batches: Batches,
    *,
    loss: Criterion,
    folder: str | Path,
    settings: TrainSettings = TrainSettings(),
    validation: Batches = (),
    predict: Predict | None = None,
    metric: Callable[[Any, Any], Tensor] | None = None,
    steps_per_epoch: int | None = None,
    fingerprint: str = "",
    progress: Progress | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainingRecord:
    """Train a network in place; it ends with the averaged weights of the best validation score.

    A run that was interrupted resumes from the state in ``folder`` and ends with the same bits, if the
    iteration of the batches depends on the epoch alone; see ``IterableBatches``.

    Args:
        model: any network, on the device to train on.
        batches: training batches: a list, a ``DataLoader`` or anything else that can be iterated repeatedly,
            or a function of the epoch that returns them.
        loss: function of prediction and target, such as ``torch.nn.MSELoss()``; it may return several terms
            by name, whose sum is the loss.
        folder: folder of the state and the log.
        settings: training settings; ``batch_size``, ``pictures`` and the settings of rollouts and noise have
            no effect.
        validation: validation batches.
        predict: function of the network and a batch that returns prediction and target; by default a batch is
            ``(*inputs, target)``.
        metric: function of prediction and target that returns a mean square error, by whose root the best
            weights are chosen; the loss by default.
        steps_per_epoch: number of batches in an epoch; by default the length of ``batches``.
        fingerprint: identifies the data; a saved state of other data, settings or weights is refused.
        progress: called with (step, total steps, text).
        stop: called after each step; if it returns True, the state is saved and training ends.

    Raises:
        InputError: a network without parameters, batches that can be read once only, or a loss that is not
            one number.
        StoppedError: ``stop`` returned True.
        ValueError: the saved state belongs to another run.
        NonFiniteError: a loss, gradient or weight is not finite.

    Example:
        >>> import torch, tempfile
        >>> x = torch.linspace(-1, 1, 32).reshape(8, 4, 1)
        >>> model = torch.nn.Linear(1, 1)
        >>> settings = TrainSettings(epochs=40, learning_rate=0.05, warmup_steps=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     record = fit(
        ...         model, [(b, 2 * b) for b in x], loss=torch.nn.MSELoss(), folder=folder, settings=settings
        ...     )
        >>> record.steps, round(model.weight.item(), 1)
        (320, 2.0)
    """
    if next(model.parameters(), None) is None:
        raise InputError(f"{type(model).__name__} has no parameters to train")
    source = IterableBatches(batches, validation, seed=settings.seed, steps_per_epoch=steps_per_epoch)
    described = identifying(json.loads(json.dumps(asdict(settings))))
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    content = json.dumps([described, shapes, source.steps_per_epoch(), fingerprint], sort_keys=True)
    return train(
        model,
        SupervisedObjective(model, loss, predict=predict, metric=metric),
        source,
        settings=settings,
        folder=Path(folder),
        fingerprint=hashlib.sha256(content.encode()).hexdigest(),
        progress=progress,
        stop=stop,
    )
