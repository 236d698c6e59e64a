"""Every error a caller can meet, in one tree.

    ContextEngineError
    ├── InvalidInputError            refused before any I/O; also a ValueError
    ├── NotFoundError
    │   └── SessionNotFoundError     only under strict_sessions
    ├── ConflictError
    │   ├── SessionExistsError       the id belongs to another user
    │   └── SessionEndedError        only under strict_sessions
    ├── AccessDeniedError
    ├── LifecycleError               used before initialize() or after close()
    ├── MissingExtraError            an optional dependency is not installed
    ├── CorruptRecordError           stored bytes could not be decoded
    ├── ArchiveError                 code: ClickHouse's number for it, None without one
    │   ├── ArchiveUnavailableError  it cannot answer now: try again, for ever
    │   ├── ArchiveRowError          a value that it cannot hold: set that row aside
    │   ├── ArchiveQueryError        the question is wrong, not the archive
    │   ├── ArchiveSchemaError       its tables are not what this release writes to
    │   │   └── ArchiveNewerError    a later release has changed them
    │   └── ArchiveAuthError         wrong password, refused permission or certificate
    └── StoreError                   outcome: "not_applied" or "unknown"; retryable
        ├── StoreUnavailableError    refused, reset, breaker open, starting up
        │   ├── StoreMisconfiguredError   the address answers, but not as configured
        │   └── StoreFileError       a damaged or foreign SQLite file: mend or replace it
        ├── StoreTimeoutError        no answer before the deadline
        ├── StoreReadOnlyError       a replica, a read-only file
        ├── StoreFullError           out of memory or disk
        ├── StoreAuthError           wrong password, refused permission
        └── StoreOverloadedError     the client's own queue is full

`outcome` tells what the caller may assume of a write: `not_applied` means the
store did not and will not apply it; `unknown` means it may have been applied
(repeat it with an idempotency key, or read first).
"""

from __future__ import annotations

from typing import Literal

Outcome = Literal["not_applied", "unknown"]


class ContextEngineError(Exception):
    """Base of every error that ContextEngine raises on purpose."""


class InvalidInputError(ContextEngineError, ValueError):
    """An argument cannot be accepted; raised before any I/O, nothing was done."""


class NotFoundError(ContextEngineError, LookupError):
    """Something that had to exist does not."""


class SessionNotFoundError(NotFoundError):
    """The session does not exist and `strict_sessions` forbids creating it implicitly."""


class ConflictError(ContextEngineError):
    """The write contradicts what is stored; nothing was written."""


class SessionExistsError(ConflictError):
    """The session id already belongs to another user."""


class SessionEndedError(ConflictError):
    """The session has ended and `strict_sessions` refuses late writes."""


class AccessDeniedError(ContextEngineError):
    """The caller does not own what it asked for."""


class LifecycleError(ContextEngineError, RuntimeError):
    """The engine was used before `initialize()` or after `close()`."""


class MissingExtraError(ContextEngineError, ImportError):
    """An optional dependency is missing; the message holds the pip command."""

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(f"{feature} needs: pip install 'aiecs-context-engine[{extra}]'")
        self.extra = extra


class CorruptRecordError(ContextEngineError):
    """Stored bytes could not be decoded; the record is set aside, not destroyed."""


class ArchiveError(ContextEngineError):
    """The archive failed; `code` is ClickHouse's number for it, None where it gave none.

    Messages name the table, the number and its name, never what is stored.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_archive, (type(self), str(self), self.__dict__))


class ArchiveUnavailableError(ArchiveError):
    """The archive cannot answer now; the same insert may be sent again, with the same token.

    `unexpected`: ClickHouse named a reason that is not known to pass. When it stays the same
    over several tries, rows may be the cause.
    """

    def __init__(self, message: str, *, code: int | None = None, unexpected: bool = False) -> None:
        super().__init__(message, code=code)
        self.unexpected = unexpected


class ArchiveInUseError(ArchiveUnavailableError):
    """Another process has the directory of this embedded archive; one at a time can use it."""


class ArchiveRowError(ArchiveError):
    """At least one row of the insert cannot be stored; no row was. Others go in without it.

    `row` is its place in the insert where that is known, else None.
    """

    def __init__(self, message: str, *, code: int | None = None, row: int | None = None) -> None:
        super().__init__(message, code=code)
        self.row = row


class ArchiveQueryError(ArchiveError):
    """The archive answers, but not this query: its text or its parameters are wrong."""


class ArchiveSchemaError(ArchiveError):
    """The archive's tables are missing or not those of this release; somebody has to look."""


class ArchiveNewerError(ArchiveSchemaError):
    """A later release has changed the archive's tables; use that release, or another database."""


class ArchiveAuthError(ArchiveError):
    """The archive refused the credentials or a permission, or shows a certificate nobody trusts."""


class StoreError(ContextEngineError):
    """The hot store failed; `outcome` and `retryable` say what may follow."""

    retryable = True

    def __init__(self, message: str, *, outcome: Outcome = "not_applied") -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.outcome))


class StoreUnavailableError(StoreError):
    """The store cannot be reached."""


class StoreMisconfiguredError(StoreUnavailableError):
    """The address answers, but not as the configured store: TLS, database, protocol, cluster."""

    retryable = False


class StoreTimeoutError(StoreError):
    """The store did not answer before the deadline."""


class StoreReadOnlyError(StoreError):
    """The store refuses writes."""


class StoreFullError(StoreError):
    """The store has no room left."""

    retryable = False


class StoreAuthError(StoreError):
    """The store refused the credentials or a permission."""

    retryable = False


class StoreOverloadedError(StoreError):
    """Too much work is waiting in this process; the call was not sent."""


def _rebuild_archive(
    kind: type[ArchiveError], message: str, attributes: dict[str, object]
) -> ArchiveError:
    error = kind(message)
    error.__dict__.update(attributes)
    return error


def _rebuild(kind: type[StoreError], message: str, outcome: Outcome) -> StoreError:
    return kind(message, outcome=outcome)
