"""What is wrong with an input; every one is a ``ValueError``."""


class InputError(ValueError):
    """A tensor of the wrong rank, number of channels or grid, or with values that are not finite."""


class SettingError(ValueError):
    """A setting out of its range; the message starts with the name of the setting."""


class ModesError(InputError):
    """Modes that a grid cannot hold, or that are no modes."""


class WeightsError(ValueError):
    """Weights that do not fit a model, or a file that holds none; nothing was loaded."""


class NonFiniteError(ValueError):
    """A loss, gradient, weight or saved value that is NaN or infinite; nothing of it was kept."""


class StoppedError(Exception):
    """Training was asked to stop and has saved its state; the message says how far it came."""


class ResolutionWarning(UserWarning):
    """A model is used on a grid outside those it was trained on."""
