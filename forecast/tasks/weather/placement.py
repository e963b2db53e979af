"""The part of the data that each process of a training run has."""

from ....fno.parallel.placement import Placement
from ....fno.parallel.processes import Processes
from ...config.weather import WeatherConfig


def place(config: WeatherConfig, processes: Processes) -> Placement:
    """Return which part of the data each process has.

    Raises:
        ValueError: the parts of the members of an ensemble would differ, or the model or loss cannot be
            computed on latitude bands.
    """
    placement = Placement(processes, config.train.latitude_bands)
    members = config.model.members
    if placement.parts > 1 and members > 1 and config.train.batch_size % (members * placement.parts):
        raise ValueError(
            f"each of {placement.parts} parts of a batch needs as many samples of each of the {members} "
            f"members: train.batch_size must be a multiple of {members * placement.parts}, got "
            f"{config.train.batch_size}"
        )
    if placement.bands > 1 and (config.loss.physics or config.loss.kind != "mse" or config.train.lead_times):
        raise ValueError(
            "train.latitude_bands is for loss.kind mse without loss.physics and train.lead_times; change "
            "these, or set train.latitude_bands=1"
        )
    return placement
