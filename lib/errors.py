"""Errors that are the user's to mend. Each message is a whole sentence that says what to do; no traceback is shown."""


class PlainError(Exception):
    """What all of them are."""


class Refused(PlainError, ValueError):
    """What was asked for cannot be done."""


class DatasetUnavailable(PlainError):
    """A dataset is neither on disk nor to be had from the network."""


class CorruptFile(PlainError):
    """A file of a dataset is there, and its content is not the published one."""


class CannotWrite(PlainError, OSError):
    """The disk is full, or a folder may not be written."""


class WorkerKilled(PlainError):
    """A process that computed runs was killed from outside."""


NAMES = tuple(kind.__name__ for kind in PlainError.__subclasses__())


def shown(value: object, longest: int = 80) -> str:
    """A value in an error's sentence: in one line, and not longer than a reader takes in.

    Example:
        >>> shown("a" * 100, longest=10)
        "'aaaaaaaa…"
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python writes no number of more than 4300 digits
        return f"a value of type {type(value).__name__} that is too large to show"
    return text if len(text) <= longest else text[: longest - 1] + "…"
