"""Errors and warnings of the package; every error about an input is a ``ValueError``."""


class InputError(ValueError):
    """A tensor of the wrong rank, number of channels, dtype or grid, or with values that are not finite."""


class SettingError(ValueError):
    """A setting out of its range; the message starts with the name of the setting."""


class ModesError(InputError):
    """An invalid number of modes, or more modes than a grid resolves."""


class RegistryError(ValueError):
    """A part that cannot be registered or imported: its name is taken, or it is not what it should be."""


class UntrustedCodeError(RegistryError):
    """A module that may not be imported; nothing of it was run.

    Attributes:
        option: name of the argument that would permit it.
        example: example of its value.
    """

    option = "trust"
    example = "FOLDER"


class WeightsError(ValueError):
    """Weights that do not fit a model, or a file without usable weights; nothing was loaded."""


class NonFiniteError(ValueError):
    """A loss, gradient, weight or saved value that is NaN or infinite; it was not saved.

    Attributes:
        reason: what is not finite and where, without a remedy.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.reason = message if reason is None else reason


class OtherRunError(ValueError):
    """A saved state of another run; the message lists what differs."""


class StoppedError(Exception):
    """Training stopped on request and saved its state; the message reports its progress."""


class ResolutionWarning(UserWarning):
    """A model is applied to a grid outside those it was trained on."""
