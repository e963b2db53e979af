"""The objective of the training of a forecast model, from its configuration."""

from torch import Tensor

from ....datasets.store.open import Store
from ....fno.grids import LatLon
from ....fno.layers.spherical import largest_lmax
from ....fno.models.stepper import Stepper
from ....fno.physics.balances import Balances
from ....fno.physics.sphere import Sphere
from ....fno.training import ForecastObjective
from ....fno.training.objectives.forecast import BalanceTerms
from ...config.weather import WeatherConfig
from .losses import build_loss, channel_weights

_BALANCE_DEGREE = 64  # of the spherical harmonics with which balances are evaluated


def build_objective(
    config: WeatherConfig,
    stepper: Stepper,
    store: Store,
    *,
    weights: Tensor,
    physics: BalanceTerms | None = None,
) -> ForecastObjective:
    """Return the objective of a model.

    Args:
        config: configuration.
        stepper: forecast model.
        store: store with the variables to forecast.
        weights: area weight of each point, zero under the mask, shape (channel, H, W).
        physics: physics terms, see ``physics_terms``.

    Raises:
        ValueError: weights of variables or levels that the store does not have.
    """
    return ForecastObjective(
        stepper,
        weights,
        config.train.noise,
        noise_spectrum=config.train.noise_spectrum,
        physics=physics,
        data_loss=build_loss(config.loss, stepper, store.grid, weights=weights),
        channel_weights=channel_weights(config.loss, store.channels),
        pushforward=config.train.pushforward,
        lead_times=config.train.lead_times,
    )


def physics_terms(config: WeatherConfig, store: Store) -> BalanceTerms | None:
    """Return the physics terms, or None without any.

    Raises:
        ValueError: the grid is not one of latitudes and longitudes.
        InputError: the store lacks variables that the terms need.
    """
    if not config.loss.physics:
        return None
    grid = store.grid
    if not isinstance(grid, LatLon):
        raise ValueError(
            "balances of the atmosphere need a grid of latitudes and longitudes; leave out loss.physics"
        )
    sphere = None
    if grid.sphere is not None:
        degree = min(_BALANCE_DEGREE, largest_lmax(*grid.shape, grid.sphere))
        sphere = Sphere(*grid.shape, grid.sphere, degree)
    southward = bool(grid.latitude[0] > grid.latitude[-1])
    weights: dict[str, float] = {str(name): weight for name, weight in config.loss.physics.items()}
    channels = [(c.variable, c.level) for c in store.channels]
    balances = Balances(list(weights), channels, sphere, southward=southward)
    return BalanceTerms(balances, weights, config.loss.warmup)
