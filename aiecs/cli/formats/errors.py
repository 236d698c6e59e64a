"""What is wrong with a file, and where."""

from __future__ import annotations

from aiecs.core.errors import InvalidInputError


class Malformed(ValueError):  # noqa: N818 - a reason on its way to becoming a FormatError
    """An object that is not what its format promises; the text is the reason.

    `line` counts from 0 at the object's first line, when the reason is about one of them.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.line = line


class Unsupported(Malformed):
    """What follows cannot be understood either."""


class FormatError(InvalidInputError):
    """A place in a file that cannot be read: `file`, `line` (from 1) and `reason`."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.file = file
        self.line = line
        self.reason = reason

    def __reduce__(self) -> tuple[type[FormatError], tuple[str, int, str]]:
        return FormatError, (self.file, self.line, self.reason)
