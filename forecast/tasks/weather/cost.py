"""Memory of the training of a forecast model, before it starts."""

from dataclasses import replace

import torch

from ....datasets.store.open import Store
from ....fno.memory import usable_memory
from ....fno.models.stepper import Stepper
from ....fno.training.footprint import Footprint, optimizer_bytes, training_footprint, without_values
from ....fno.training.objectives.forecast import ForecastObjective
from ...config.weather import WeatherConfig
from ..check import Memory, memory_problem
from .forcing_inputs import ForcingPlan
from .shapes import Shapes

BATCHES_AHEAD = 3  # that the loader prepares while one is in use
_PROCESS = 400 * 2**20  # of Python with the libraries that training imports
_BLOCK = 2**25  # of states that statistics are computed from at a time
_BLOCKS = 14  # such blocks that reading and statistics leave behind as memory for reuse
_STATES_PER_BATCH = 500  # bound on the tensors of a step, in batches of one-step samples
HINT = "use a smaller train.batch_size, train.rollout_steps or model"


def footprint(shapes: Shapes, device: str) -> Footprint:
    """Return the memory of the largest training and validation step.

    Rollouts of one and two steps are traced, and longer ones extrapolated: each step adds the same tensors.
    Of a training on the last step alone, whose gradient is that of one step, those of two and three are.
    Members share the samples of a batch, so that one of them with all samples stands for all.

    Raises:
        NotImplementedError, RuntimeError: the model computes with values, so it cannot be traced.
        SettingError: settings that do not fit the model.
    """
    config = shapes.config
    settings = config.train
    members = config.model.members
    single = config.model.model_copy(update={"members": 1})
    one = replace(shapes, config=config.model_copy(update={"model": single}))
    samples = -(-settings.batch_size // shapes.parts)
    kind = device.split(":", maxsplit=1)[0]

    def build() -> tuple[Stepper, ForecastObjective]:
        stepper = one.stepper().to("meta")
        return stepper, one.objective(stepper)

    def trace(steps: int, validation: int | None = None) -> Footprint:
        return training_footprint(
            build,
            lambda: one.batch(samples, steps),
            None if validation is None else lambda: one.batch(shapes.validation_samples, validation),
            settings=settings,
            device=kind,
        )

    longest = shapes.longest
    start = longest if settings.lead_times else min(longest, 2 if settings.pushforward else 1)
    validated = min(2, settings.validation_steps)
    first = trace(start, validated)
    training = first.training
    if longest > start:
        training += (longest - start) * (trace(start + 1).training - first.training)
    # Gradients of the other members, and of the parts before.
    training += (members - 1) * first.trainable
    if shapes.parts > 1:
        training += members * first.trainable
        training += shapes.batch_bytes(settings.batch_size - samples, longest)
    further = settings.validation_steps - validated
    validation = first.validation + shapes.batch_bytes(shapes.validation_samples, further)
    validation -= shapes.batch_bytes(shapes.validation_samples, 0)
    return Footprint(
        parameters=members * first.parameters,
        trainable=members * first.trainable,
        weights=members * first.weights,
        moments=members * first.moments,
        training=training,
        validation=validation,
    )


def memory_of(shapes: Shapes, steps: Footprint, device: str) -> Memory:
    """Return the largest memory of a run.

    Args:
        shapes: sizes.
        steps: memory of a step.
        device: device of training.
    """
    config = shapes.config
    # Weights, averages, best, and moments; a copy of the weights while the averages are validated.
    weights = 3 * steps.weights + steps.moments
    if config.parent is not None:
        weights += steps.weights
    validation = steps.validation + steps.weights + steps.trainable
    step = max(steps.training, validation)
    if device != "cpu":
        _, total = torch.cuda.mem_get_info(device) if torch.cuda.is_available() else (0, 0)
        return Memory(weights, step, data=0, process=0, peak=weights + step, available=total)
    fields = sum(v.size for v in shapes.store.dataset.data_vars.values()) * 4 + shapes.forcing.nbytes
    states = fields if fields <= config.data.cache_bytes else min(fields, config.data.buffer_bytes)
    data = states + BATCHES_AHEAD * shapes.batch_bytes(config.train.batch_size, shapes.longest)
    process = _PROCESS + _BLOCKS * min(fields, _BLOCK)
    return Memory(weights, step, data, process, weights + step + data + process, usable_memory())


def require_memory(config: WeatherConfig, store: Store, forcing: ForcingPlan, *, device: str) -> None:
    """Check that a run fits into memory. The step is traced only if a bound leaves it open.

    Args:
        config: configuration.
        store: store with the variables to forecast.
        forcing: the forcings.
        device: device of training.

    Raises:
        ValueError: it does not.
    """
    shapes = Shapes(config, store, forcing)
    try:
        with without_values():
            stepper = shapes.stepper()
            weights = sum(t.nbytes for t in (*stepper.parameters(), *stepper.buffers()))
            moments = optimizer_bytes(stepper, config.train)
    except (NotImplementedError, RuntimeError):  # a model of another package that computes with values
        return
    batch = shapes.batch_bytes(config.train.batch_size, 1)
    least = Footprint(0, weights, weights, moments, training=weights + batch, validation=0)
    memory = memory_of(shapes, least, device)
    if not memory.fits:
        raise ValueError(memory_problem(memory, device, HINT))
    bound = _STATES_PER_BATCH * shapes.longest * batch + memory.peak
    if bound <= memory.available:
        return
    try:
        memory = memory_of(shapes, footprint(shapes, device), device)
    except (NotImplementedError, RuntimeError):
        return
    if not memory.fits:
        raise ValueError(memory_problem(memory, device, HINT))
