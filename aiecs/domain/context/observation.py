"""What every call is measured by, and who is told of it."""

from __future__ import annotations

import inspect
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from time import perf_counter
from types import TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, runtime_checkable

from aiecs.core.clock import utcnow
from aiecs.core.errors import (
    ArchiveError,
    ConflictError,
    ContextEngineError,
    CorruptRecordError,
    StoreError,
)
from aiecs.core.interface.store import CorruptField, GuardFailed
from aiecs.domain.context.latency import Histogram, Latency

logger = logging.getLogger("aiecs")

P = ParamSpec("P")
R = TypeVar("R")

OK = "ok"
NOT_OPEN = ("", "configured")
_SUBJECTS = ("session_id", "session_key", "thread_id", "user_id")
_FAULTS = (StoreError, ArchiveError, CorruptRecordError)


class Observer(Protocol):
    """Is told of every operation of an engine, on the thread and loop that ran it.

    It may also be one or several of `OpeningObserver`, `ClosingObserver`, `StateObserver` and
    `Tracer`. No method may block. What one raises is logged and goes no further.
    """

    def operation(self, name: str, seconds: float, outcome: str) -> None:
        """`name` as the engine's method; `outcome` is "ok" or the name of the error's class."""
        ...


@runtime_checkable
class OpeningObserver(Protocol):
    """Is told what the engine was opened on, before the first operation."""

    def opened(self, storage_backend: str, storage_mode: str) -> None:
        """`memory`, `sqlite`, `redis` or another store's name; `configured` or `fallback`."""
        ...


@runtime_checkable
class ClosingObserver(Protocol):
    """Is told that the engine was closed: the state it was told last is nobody's any more."""

    def closed(self) -> None:
        """Comes after the last operation; `opened` comes again when the engine is opened again."""
        ...


@runtime_checkable
class StateObserver(Protocol):
    """Is told every 10 s how the engine is, for as long as an event loop uses it."""

    def state(self, metrics: Mapping[str, Any]) -> None:
        """What `ContextEngine.get_metrics` says; totals are None while the store is down."""
        ...


@runtime_checkable
class Tracer(Protocol):
    """Surrounds every operation, so that what happens in it is part of it."""

    def span(self, name: str, subject: Mapping[str, str]) -> AbstractContextManager[Any]:
        """Is entered before the operation and left after it, with its error if it raised one.

        `subject` names what it is about: at most one of `session_id`, `session_key`, `thread_id`
        and `user_id`. Its content is never told.
        """
        ...


class Fault(NamedTuple):
    """The last error that was the fault of a store, an archive or a record."""

    error: str
    operation: str
    at: str


class Monitor:
    """One engine's measurements. Safe from any thread; a count may be lost, never an error made."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._observers = tuple(observers)
        self._by_name: dict[str, Histogram] = {}
        self._errors: Counter[tuple[str, str]] = Counter()
        self.tracers = _tracers(self._observers)
        self.last_fault: Fault | None = None
        #: Set while the engine is open: what it was opened on.
        self.storage = NOT_OPEN

    def observe(self, observer: Observer) -> None:
        """Tell one more from now on."""
        self._observers += (observer,)
        self.tracers = _tracers(self._observers)
        if self.storage[0]:
            self._opened(observer)

    def opened(self, storage_backend: str, storage_mode: str) -> None:
        """Note, and tell, what the engine was opened on."""
        self.storage = storage_backend, storage_mode
        for observer in self._observers:
            self._opened(observer)

    def _opened(self, observer: Observer) -> None:
        if isinstance(observer, OpeningObserver):
            with _apart("opened"):
                observer.opened(*self.storage)

    def closed(self) -> None:
        """Tell that the engine is closed."""
        self.storage = NOT_OPEN
        for observer in self._observers:
            if isinstance(observer, ClosingObserver):
                with _apart("closed"):
                    observer.closed()

    @property
    def wants_state(self) -> bool:
        """Whether anybody is to be told how the engine is."""
        return any(isinstance(one, StateObserver) for one in self._observers)

    def state(self, metrics: Mapping[str, Any]) -> None:
        """Tell how the engine is."""
        for observer in self._observers:
            if isinstance(observer, StateObserver):
                with _apart("state"):
                    observer.state(metrics)

    def record(self, name: str, seconds: float, outcome: str = OK) -> None:
        """Count one call of the operation `name`."""
        histogram = self._by_name.get(name)
        if histogram is None:
            histogram = self._by_name.setdefault(name, Histogram())
        histogram.record(seconds)
        for observer in self._observers:
            try:
                observer.operation(name, seconds, outcome)
            except Exception:  # an observer's fault is not the caller's
                logger.exception("an observer failed", extra={"operation": name})

    def failed(self, name: str, seconds: float, error: BaseException) -> None:
        """Count one call that raised."""
        self._errors[name, type(error).__name__] += 1
        if isinstance(error, _FAULTS):
            self.last_fault = Fault(type(error).__name__, name, utcnow().isoformat())
        self.record(name, seconds, type(error).__name__)

    @property
    def failures(self) -> int:
        """How many calls raised."""
        return self._errors.total()

    def errors(self, name: str) -> dict[str, int]:
        """How often an operation raised what, by the names of the errors' classes."""
        return {error: n for (one, error), n in list(self._errors.items()) if one == name}

    def latency(self, name: str | None = None) -> Latency:
        """The latency of one operation, or of all together."""
        if name is not None:
            found = self._by_name.get(name)
            return Latency() if found is None else found.latency()
        total = Histogram()
        for histogram in list(self._by_name.values()):
            total.add(histogram)
        return total.latency()

    def operations(self) -> dict[str, dict[str, Any]]:
        """Calls, latencies in seconds, and errors of each operation that was called."""
        return {
            name: {**found.latency()._asdict(), "errors": self.errors(name)}
            for name, found in sorted(self._by_name.copy().items())
        }

    def span(self, name: str, subject: Mapping[str, str]) -> _Spans:
        """All tracers' spans of one operation."""
        return _Spans(self.tracers, name, subject)


class _Spans:
    """Spans that can neither replace the operation's error nor swallow it."""

    __slots__ = ("_name", "_open", "_subject", "_tracers")

    def __init__(self, tracers: Iterable[Tracer], name: str, subject: Mapping[str, str]) -> None:
        self._tracers = tracers
        self._name = name
        self._subject = subject
        self._open: list[AbstractContextManager[Any]] = []

    def __enter__(self) -> None:
        for tracer in self._tracers:
            try:
                span = tracer.span(self._name, self._subject)
                span.__enter__()
            except Exception:  # as in `record`
                logger.exception("an observer failed", extra={"operation": self._name})
            else:
                self._open.append(span)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for span in reversed(self._open):
            try:
                span.__exit__(kind, error, trace)
            except BaseException as fault:
                if fault is not error:
                    logger.exception("an observer failed", extra={"operation": self._name})


def _tracers(observers: Iterable[Observer]) -> tuple[Tracer, ...]:
    return tuple(one for one in observers if isinstance(one, Tracer))


@contextmanager
def _apart(name: str) -> Iterator[None]:
    """An observer's fault is logged: it is not the caller's."""
    try:
        yield
    except Exception:
        logger.exception("an observer failed", extra={"operation": name})


class Monitored(Protocol):
    """Whose operations are measured."""

    @property
    def monitor(self) -> Monitor:
        """What measures them."""
        ...


E = TypeVar("E", bound=Monitored)


def operation(
    method: Callable[Concatenate[E, P], Awaitable[R]],
) -> Callable[Concatenate[E, P], Coroutine[Any, Any, R]]:
    """A method of the engine: measured, observed, and failing with the public errors only."""
    name, subject_of = method.__name__, _subject_of(method)

    async def measured(engine: E, /, *args: P.args, **kwargs: P.kwargs) -> R:
        started = perf_counter()
        try:
            result = await method(engine, *args, **kwargs)
        except (CorruptField, GuardFailed) as error:
            public = _public(name, error)  # what callers catch is what is counted and told
            engine.monitor.failed(name, perf_counter() - started, public)
            raise public from error
        except BaseException as error:
            engine.monitor.failed(name, perf_counter() - started, error)
            raise
        engine.monitor.record(name, perf_counter() - started)
        return result

    @wraps(method)
    async def observed(engine: E, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if not engine.monitor.tracers:
            return await measured(engine, *args, **kwargs)
        with engine.monitor.span(name, subject_of(args, kwargs)):
            return await measured(engine, *args, **kwargs)

    return observed


def _subject_of(method: Callable[..., Any]) -> Callable[[Any, Any], dict[str, str]]:
    """What names the subject of a call, from the arguments of the call."""
    parameters = list(inspect.signature(method).parameters)[1:]
    name = next((one for one in _SUBJECTS if one in parameters), None)
    if name is None:
        return lambda _args, _kwargs: {}
    at = parameters.index(name)

    def found(args: Any, kwargs: Any) -> dict[str, str]:
        value = args[at] if at < len(args) else kwargs.get(name)
        return {name: value} if isinstance(value, str) and value else {}

    return found


def _public(name: str, error: CorruptField | GuardFailed) -> ContextEngineError:
    """What callers see of a store's answer that no service has made sense of."""
    if isinstance(error, CorruptField):
        return CorruptRecordError(f"{name}: a stored counter or log is corrupt")
    return ConflictError(f"{name}: a counter has reached its limit")
