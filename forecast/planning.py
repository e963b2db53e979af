"""Plan of a quickstart: settings that fit a store, and the initial times of its forecasts."""

import logging
import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import numpy as np

from ..datasets.loaders.split import Split
from ..datasets.store.open import Store
from ..fno.grids import SphereGrid
from ..fno.layers.spherical import largest_lmax
from .config.weather import WeatherConfig
from .tasks.dispatch import load_config

log = logging.getLogger(__name__)
LEAD = np.timedelta64(72, "h")
_RECIPE = "quickstart"
_GLOBAL_RECIPE = "quickstart_global"
_LARGEST_DEGREES = 31  # of an SFNO
_REFERENCE_POINTS = 25 * 53  # grid that the recipe is tuned for
REFERENCE_COST = 1314 * _REFERENCE_POINTS  # training samples times grid points


def plan(store: Store, folder: Path, overrides: Sequence[str] = ()) -> WeatherConfig:
    """Return the recipe for regions or the globe, with sizes that suit a store.

    Training takes the same time whatever the size of the store. The plan depends on the sizes alone, never
    on timings, so that a resumed run has the same plan. Points, channels and samples beyond the reference
    are compensated by fewer samples per epoch, then by smaller batches and fewer members.
    """
    recipe = choose_recipe(overrides, globe=store.grid.sphere is not None)
    split = store.split()
    samples = split.train.stop - split.train.start
    channels = len(store.channels)
    points = store.grid.shape[0] * store.grid.shape[1]
    hidden = {1: 20, 2: 24, 3: 28}.get(channels, 32)
    cost = points * (hidden / 20) ** 1.5 * (1 + 0.1 * (channels - 1))
    # Members share the samples; each should still take about four hundred steps.
    members = max(1, min(4, round(4 * _REFERENCE_POINTS / cost)))
    affordable = max(members * 4, int(REFERENCE_COST / cost))
    batch = max(
        members, min(16 * members, affordable // 8 // members * members, samples // 4 // members * members)
    )
    window = max(1, min(9, samples // 16))
    values = [
        f"data.store={folder / 'store.zarr'}",
        f"output={folder}",
        f"data.samples_per_epoch={min(samples, affordable)}",
        f"model.window={window}",
        f"model.members={members}",
        f"model.hidden_channels={hidden}",
        f"train.batch_size={batch}",
        f"train.validation_samples={max(4, min(32, int(64 * _REFERENCE_POINTS / cost)))}",
        f"train.validation_steps={max(1, min(12, math.ceil(LEAD / store.step)))}",
    ]
    if recipe == _GLOBAL_RECIPE:
        rows, columns = store.grid.shape
        sphere = cast(SphereGrid, store.grid.sphere)
        degrees = min(_LARGEST_DEGREES, largest_lmax(rows, columns, sphere, "least_squares"))
        values += [f"model.lmax={degrees}", f"model.window={min(2, window)}"]
    return cast(WeatherConfig, load_config(recipe, [*values, *overrides]))


def choose_recipe(overrides: Sequence[str], *, globe: bool) -> str:
    """Return the name of the recipe of a quickstart.

    Args:
        overrides: ``key=value``.
        globe: whether the grid covers the sphere. Such data use the recipe for regions only if the
            overrides suit no other, as ``model.kind=fno`` does.

    Raises:
        ValueError: the overrides suit no recipe.
    """
    if globe:
        with suppress(ValueError):
            load_config(_GLOBAL_RECIPE, overrides)
            return _GLOBAL_RECIPE
    load_config(_RECIPE, overrides)
    return _RECIPE


def split_of(store: Store, config: WeatherConfig) -> Split:
    """Return the split of a store by a configuration."""
    data = config.data
    return store.split(
        data.train_period,
        data.validation_fraction,
        data.gap_steps,
        validation_period=data.validation_period,
    )


def initial_times(store: Store, test: slice, *, window: int) -> tuple[np.ndarray, int]:
    """Return initial times spread evenly over the test period, and the number of steps of each forecast.

    A forecast starts at every n-th time of the test period, with n chosen so that about 240 remain, or fewer
    on a large grid, and all hours of the day are equally frequent. The lead time is 72 hours, or shorter if
    the series is.

    Raises:
        ValueError: no forecast fits.
    """
    times = store.dataset["time"].values
    steps = max(1, int(LEAD / store.step))
    steps = max(1, min(steps, (test.stop - test.start) // 2))
    first = max(test.start, window - 1)
    possible = [
        i
        for i in range(first, test.stop - steps)
        if not any(i - window + 1 < gap <= i + steps for gap in store.gaps)
    ]
    if not possible:
        raise ValueError(
            f"{store.path}: no forecast of {steps} steps fits into the test period of "
            f"{test.stop - test.start} times; give a longer series"
        )
    steps_per_day = max(1, round(np.timedelta64(1, "D") / store.step))
    points = store.grid.shape[0] * store.grid.shape[1] * len(store.channels)
    target = 240 if points < 20_000 else max(8, 240 * 20_000 // points)
    stride = max(1, len(possible) // target)
    while math.gcd(stride, steps_per_day) > 1:
        stride -= 1
    if steps * store.step < LEAD and store.step <= LEAD:
        log.warning(
            "the test period is short: forecasts end at %g h", steps * store.step / np.timedelta64(1, "h")
        )
    return times[possible[::stride]], steps
