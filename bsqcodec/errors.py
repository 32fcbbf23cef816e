"""The errors that bsqcodec raises. `cli/bsqc/main.py` turns each into one line and an exit code."""


class BsqError(Exception):
    """Base of every error that bsqcodec raises on purpose. The message is one line, fit for a user's eyes."""


class InputError(BsqError):
    """A file or an argument is not what was expected."""


class FormatError(BsqError):
    """A .bsq stream is damaged or not one at all.

    offset: byte position in the stream at which the fault was found, None where there is none to name.
    """

    def __init__(self, message: str, offset: int | None = None) -> None:
        super().__init__(message if offset is None else f"{message} (at byte {offset})")
        self.offset = offset


class ModelError(BsqError):
    """Weights are missing, damaged, or not those that the stream was made with."""


class DependencyError(BsqError):
    """An optional library, or a feature of one, is not available here."""
