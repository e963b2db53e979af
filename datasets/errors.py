"""Errors about data that cannot be used; they name the argument by which the data could be used."""


class DataError(ValueError):
    """Data that cannot be used as they are.

    Attributes:
        option: name of the argument that resolves the error, e.g. ``follow_links``; None if there is none. A
            command converts it to its own option.
        example: value of that argument that resolves the error, e.g. ``depth=0.5``; empty if none is known.
    """

    def __init__(self, message: object = "", *, option: str | None = None, example: str = "") -> None:
        super().__init__(message)
        self.option = option
        self.example = example


class InvalidDataError(DataError):
    """A source that can be read, but has no valid meaning or exceeds a limit."""


class IncompleteDataError(DataError):
    """Part of the data is missing, for example because the source is still being written."""


class UntrustedDataError(InvalidDataError):
    """A source that requires code, files outside of it, or memory beyond the limit."""


class UnknownUnitsError(DataError):
    """Units that are missing, or that no parser of CF units accepts."""


class LinkRefusedError(UntrustedDataError):
    """A link that leads out of a source, where links are not followed."""

    def __init__(
        self, message: object = "", *, option: str | None = "follow_links", example: str = ""
    ) -> None:
        super().__init__(message, option=option, example=example)


class MemoryLimitError(UntrustedDataError):
    """Data that would take more memory than the limit allows."""

    def __init__(self, message: object = "", *, option: str | None = "memory", example: str = "") -> None:
        super().__init__(message, option=option, example=example)


class OutputExistsError(FileExistsError):
    """An output that exists and would be replaced if the caller allowed it.

    Attributes:
        option: name of the argument that allows it.
        example: empty, as for an argument without a value.
    """

    option = "overwrite"
    example = ""


class WriteError(Exception):
    """A library failed to write a file."""
