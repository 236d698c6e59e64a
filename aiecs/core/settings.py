"""Settings from the environment: what there is, and what is set.

The fields of `Settings` are the one list of variables; parsing, defaults and documentation
follow from it.
Importing this module loads no pydantic; `load_settings()` does. A `.env` file is read only
when it is named.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    get_args,
    get_origin,
    get_type_hints,
)

from aiecs.core.errors import InvalidInputError
from aiecs.core.secret import Secret, SecretUrl, safe_url
from aiecs.core.server_settings import URL, Env, ServerSettings, env

if TYPE_CHECKING:
    from os import PathLike

    from pydantic_settings import BaseSettings

__all__ = ["Secret", "Settings", "load_settings", "safe_url", "settings_table"]

_TTL = {"ge": 0, "le": 315_360_000}


class _Variable(NamedTuple):
    field: str
    type: Any
    default: Any
    env: Env


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ServerSettings):
    """Every setting, checked. Shows no secret; `given` names the variables that were set."""

    named_store: Annotated[
        SecretUrl | None,
        env(
            "AIECS_STORE_URL",
            "The store, as a URL: `memory://`, `sqlite:///file.db`, `redis://host:6379/1`, ... "
            "A store named here must answer; there is no falling back to memory.",
            **URL,
        ),
    ] = None
    named_archive: Annotated[
        SecretUrl | None,
        env(
            "AIECS_ARCHIVE_URL",
            "The archive, as a URL: `clickhouse://host:8123/db`, `chdb:///path`. "
            "Wins over `CLICKHOUSE_*`.",
            **URL,
        ),
    ] = None
    archive_ship: Annotated[
        bool,
        env(
            "AIECS_ARCHIVE_SHIP",
            "Bring events into the archive from this process; false leaves it to "
            "`aiecs archive ship`.",
        ),
    ] = True
    archive_outbox_bytes: Annotated[
        int,
        env(
            "AIECS_ARCHIVE_OUTBOX_BYTES",
            "Bytes of events that may wait for the archive in the store.",
            ge=1024 * 1024,
        ),
    ] = 1024 * 1024 * 1024
    archive_outbox_seconds: Annotated[
        float,
        env(
            "AIECS_ARCHIVE_OUTBOX_SECONDS",
            "Seconds that an event may wait for the archive; 0: as long as there is room.",
            ge=0,
        ),
    ] = 0.0
    archive_when_full: Annotated[
        Literal["refuse", "drop_oldest"],
        env(
            "AIECS_ARCHIVE_WHEN_FULL",
            "What happens beyond: new writes are refused, or the oldest events are given up.",
        ),
    ] = "refuse"
    archive_read_timeout: Annotated[
        float,
        env(
            "AIECS_ARCHIVE_READ_TIMEOUT",
            "Seconds that a history waits for what the archive holds of it.",
            gt=0,
            le=60,
        ),
    ] = 0.25
    key_prefix: Annotated[
        str,
        env(
            "AIECS_KEY_PREFIX",
            "What the keys begin with on a server that is shared with others. "
            "1 to 32 letters, digits, `_`, `-` or `.`.",
            pattern=r"^[A-Za-z0-9_.-]{1,32}$",
        ),
    ] = "ce"
    session_ttl: Annotated[
        int,
        env(
            "AIECS_SESSION_TTL",
            "Seconds after its last write that a session is kept; 0: for ever.",
            **_TTL,
        ),
    ] = 86_400
    checkpoint_ttl: Annotated[
        int,
        env(
            "AIECS_CHECKPOINT_TTL",
            "Seconds after its last write that a thread's checkpoints are kept; 0: for ever.",
            **_TTL,
        ),
    ] = 604_800
    operation_timeout: Annotated[
        float,
        env(
            "AIECS_OPERATION_TIMEOUT",
            "Seconds that a call to the store may take.",
            gt=0,
            le=3600,
        ),
    ] = 1.0
    max_messages_per_session: Annotated[
        int | None,
        env(
            "AIECS_MAX_MESSAGES_PER_SESSION",
            "Keep only so many of the newest messages of a session; without it all are kept.",
            ge=1,
        ),
    ] = None
    strict_sessions: Annotated[
        bool,
        env(
            "AIECS_STRICT_SESSIONS",
            "Refuse writes to unknown or ended sessions instead of creating them.",
        ),
    ] = False
    tail_cache_bytes: Annotated[
        int,
        env(
            "AIECS_TAIL_CACHE_BYTES",
            "Bytes of recent messages that a process keeps for reading; 0: none.",
            ge=0,
        ),
    ] = 32 * 1024 * 1024
    store_max_bytes: Annotated[
        int,
        env(
            "AIECS_STORE_MAX_BYTES",
            "Bytes that a store in memory or a SQLite file may hold; then writes are refused. "
            "0: no bound. `max_bytes=` in the URL wins.",
            ge=0,
        ),
    ] = 0
    sqlite_synchronous: Annotated[
        Literal["NORMAL", "FULL"],
        env(
            "AIECS_SQLITE_SYNCHRONOUS",
            "`NORMAL` survives a crash of the process, `FULL` a loss of power too; slower.",
        ),
    ] = "NORMAL"

    @property
    def store_url(self) -> str | None:
        """The store that `AIECS_STORE_URL` names, secrets included; None if it names none."""
        return self.named_store.reveal() if self.named_store else None

    @property
    def archive_url(self) -> str | None:
        """The archive that is named or enabled, secrets included; None for no archive."""
        if self.named_archive:
            return self.named_archive.reveal()
        return self.clickhouse_url if self.clickhouse_enabled else None


class SettingRow(NamedTuple):
    """One variable, as text for people."""

    name: str
    type: str
    default: str
    description: str


def load_settings(env_file: str | PathLike[str] | None = None) -> Settings:
    """The settings of now: from the environment, then from `env_file` if one is named.

    An empty variable counts as not set. `InvalidInputError` names every variable with a bad
    value, never the value; it also says if `env_file` does not exist or settings contradict
    each other.
    """
    from pydantic import ValidationError

    if env_file is not None and not Path(env_file).is_file():
        raise InvalidInputError(f"there is no file {env_file}")
    try:
        read = _model()(_env_file=env_file if env_file is None else Path(env_file))
    except ValidationError as error:
        wrong = [f"{one['loc'][0]}: {one['msg']}" for one in error.errors(include_input=False)]
    else:
        wrong = []
    # Outside of the handler: the validation error holds the values, and must not be chained.
    if wrong:
        raise InvalidInputError("; ".join(wrong))
    settings = _settings(read)
    settings.check()
    return settings


def settings_table() -> list[SettingRow]:
    """Every variable with its type, default and description; `AIECS_*` first."""
    return [
        SettingRow(one.env.name, _type_name(one.type), _text(one.default), one.env.description)
        for one in _variables()
    ]


@cache
def _variables() -> tuple[_Variable, ...]:
    hints = get_type_hints(Settings, include_extras=True)
    annotated = [(one, hints[one.name]) for one in fields(Settings) if one.name != "given"]
    found = [
        _Variable(one.name, hint.__origin__, one.default, hint.__metadata__[0])
        for one, hint in annotated
    ]
    return tuple(sorted(found, key=lambda one: not one.env.name.startswith("AIECS_")))


@cache
def _model() -> type[BaseSettings]:
    from pydantic import Field, create_model
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Environment(BaseSettings):
        model_config = SettingsConfigDict(
            case_sensitive=True, env_ignore_empty=True, extra="ignore", env_file_encoding="utf-8"
        )

    parsed: dict[str, Any] = {
        one.field: (
            _plain_type(one.type),
            Field(one.default, validation_alias=one.env.name, **one.env.limits),
        )
        for one in _variables()
    }
    return create_model("Environment", __base__=Environment, **parsed)


def _settings(read: BaseSettings) -> Settings:
    values: dict[str, Any] = {}
    for one in _variables():
        value, secret = getattr(read, one.field), _secret_type(one.type)
        values[one.field] = value if secret is None or value is None else secret(value)
    given = (one.env.name for one in _variables() if one.field in read.model_fields_set)
    return Settings(**values, given=frozenset(given))


def _plain_type(hint: Any) -> Any:
    secret = _secret_type(hint)
    if secret is None:
        return hint
    return str | None if isinstance(hint, UnionType) else str


def _secret_type(hint: Any) -> type[Secret] | None:
    for part in get_args(hint) or (hint,):
        if isinstance(part, type) and issubclass(part, Secret):
            return part
    return None


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    kind = next(part for part in get_args(hint) or (hint,) if part is not type(None))
    names = {str: "text", int: "integer", float: "number", bool: "true or false"}
    return names.get(kind, "URL, secret" if kind is SecretUrl else "text, secret")


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
