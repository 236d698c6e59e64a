"""What went wrong in ClickHouse, as the errors that a shipper and a reader act on.

The server's own texts can quote what is stored, so none of them goes into a message; the number
and the name of the error do.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Final, Literal

from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from aiecs.core.errors import (
    ArchiveAuthError,
    ArchiveError,
    ArchiveQueryError,
    ArchiveRowError,
    ArchiveSchemaError,
    ArchiveUnavailableError,
)
from aiecs.infrastructure.persistence.archive.embedded import in_use

if TYPE_CHECKING:
    from collections.abc import Iterator

Doing = Literal["open", "insert", "query"]

#: Timeouts, overload, memory, a replica that is read-only or lags, a lost connection to Keeper.
_SERVER_STATE: Final = frozenset(
    {159, 160, 164, 202, 209, 210, 241, 242, 252, 279, 319, 341, 425, 999}
)
#: A full or failing disk, quorum and replicas missing, shutting down: no row is to blame.
_AROUND_IT: Final = frozenset({75, 76, 203, 225, 236, 243, 285, 286, 394, 439, 745})
PASSING: Final = _SERVER_STATE | _AROUND_IT
#: To whoever inserts, a state that passes; to whoever asks, the answer that a query only reads.
_READ_ONLY: Final = 164
#: Missing column, identifier, table or database.
SCHEMA: Final = frozenset({16, 47, 60, 81})
#: Unknown user; wrong or missing password; access denied; authentication failed.
AUTH: Final = frozenset({192, 193, 194, 497, 516})
#: Values that cannot be parsed, converted or held, and constraints that they break.
ROW: Final = frozenset({6, 26, 27, 33, 38, 53, 69, 70, 72, 117, 131, 349, 469})
#: The text of a query is wrong; of these the server's own words help and quote only the query.
QUERY_TEXT: Final = frozenset({42, 43, 46, 47, 62, 396, 456})

_STATUS = re.compile(r"HTTP status (\d{3})")
_UNAUTHORIZED: Final = (401, 403)
_TOO_MANY, _SERVER_ERROR = 429, 500
_CONNECTED_ELSEWHERE = "EmbeddedServer"


def explain(error: Exception, doing: Doing, what: str) -> ArchiveError:
    """The archive's error for what the driver raised; `what` names the archive or the table."""
    if _is_untrusted(error):
        return ArchiveAuthError(f"{what}: the server's certificate is not trusted")
    code = getattr(error, "code", None)
    if code is not None:
        return _by_code(code, error, doing, what)
    text = str(error)
    if _CONNECTED_ELSEWHERE in text:
        return _occupied(text, what)
    status = _STATUS.search(text)
    if status:
        return _by_status(int(status[1]), what)
    # Without a number of the server's it did not answer, or it was no ClickHouse that did.
    return ArchiveUnavailableError(
        f"{what} cannot be reached ({_reason(error)})", unexpected=not _is_transport(error)
    )


def _by_code(code: int, error: Exception, doing: Doing, what: str) -> ArchiveError:
    name = getattr(error, "name", None)
    said = f"{what}: ClickHouse says {code}{f' {name}' if name else ''}"
    if code in AUTH:
        return ArchiveAuthError(said, code=code)
    if code in PASSING and not (code == _READ_ONLY and doing == "query"):
        return ArchiveUnavailableError(said, code=code)
    if doing == "query":
        detail = f": {_first_line(error)}" if code in QUERY_TEXT else ""
        return ArchiveQueryError(f"{said}{detail}", code=code)
    if doing == "open" or code in SCHEMA:
        return ArchiveSchemaError(said, code=code)
    if code in ROW:
        return ArchiveRowError(said, code=code)
    return ArchiveUnavailableError(said, code=code, unexpected=True)


def _by_status(status: int, what: str) -> ArchiveError:
    said = f"{what}: HTTP status {status}, not from ClickHouse itself"
    if status in _UNAUTHORIZED:
        return ArchiveAuthError(said)
    passing = status == _TOO_MANY or status >= _SERVER_ERROR
    return ArchiveUnavailableError(said, unexpected=not passing)


def _occupied(text: str, what: str) -> ArchiveError:
    if "different path" in text:
        return ArchiveSchemaError(
            f"{what}: this process has another embedded archive open, and chDB can open only one "
            "directory in a process at a time"
        )
    return in_use(what)


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(cause, ssl.SSLCertVerificationError) for cause in _causes(error))


def _is_transport(error: BaseException) -> bool:
    return any(isinstance(cause, (OSError, HTTPError)) for cause in _causes(error))


def _reason(error: BaseException) -> str:
    """The innermost cause's type: that of the operating system, where there is one."""
    return type([*_causes(error)][-1]).__name__


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, also as urllib3 keeps it: in `reason` or in the arguments."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]


def _first_line(error: Exception) -> str:
    text = str(error).partition("DB::Exception: ")[2] or str(error)
    return text.splitlines()[0][:300]


#: What the driver raises for the server and the network; anything else is a mistake of ours.
RAISED: Final = (ClickHouseError, HTTPError, OSError)
