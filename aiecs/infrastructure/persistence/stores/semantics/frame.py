"""One batch while it runs: the state of its group and the results so far."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from aiecs.core.interface import store as port
from aiecs.core.interface.value_rules import parse_integer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiecs.infrastructure.persistence.stores.semantics.state import State

_RECEIPT_FIELD = "w:"
_FAILURES_KEPT = 32


class Frame:
    """What the operations of one batch share."""

    __slots__ = ("alive", "batch", "expired", "head", "incarnation", "now", "results", "state")

    def __init__(self, state: State, batch: port.Batch) -> None:
        self.state = state
        self.batch = batch
        self.now = state.now()
        self.head = f"{batch.bucket}/{batch.group}"
        self.results: list[Any] = [None] * len(batch.ops)
        self.incarnation = b""
        self.alive = False
        self.expired = False

    def load_head(self) -> None:
        """Find out whether the group exists, and whether it has expired."""
        incarnation, expires = self.state.map_fields(self.head, ("~i", "~x"))
        if incarnation is None:
            return
        self.incarnation = incarnation
        if expires is not None and not self.batch.raw:
            deadline = parse_integer(expires)
            if deadline is None:
                raise port.CorruptField(-1)
            self.expired = deadline <= self.now
        self.alive = not self.expired

    # --- keys and values ------------------------------------------------------------------------

    @property
    def bucket_head(self) -> str:
        """The map of the bucket itself."""
        return str(self.batch.bucket)

    def key(self, key: str) -> str:
        """The complete key under which the state knows it."""
        if key == "":
            return self.head
        if key[0] == "_":
            return f"{self.batch.bucket}{key}"
        return f"{self.head}/{key}"

    def absent(self, key: str) -> bool:
        """Whether the key reads as absent because its group does."""
        return not self.alive and key[:1] != "_"

    def fields(self, key: str, fields: Iterable[str]) -> list[bytes | None]:
        """Values as a guard or a `Get` sees them."""
        if self.absent(key):
            return [None for _ in fields]
        return self.state.map_fields(self.key(key), fields)

    def value(self, value: Any) -> bytes:
        """The bytes that a value of an operation stands for."""
        kind = type(value)
        if kind is bytes:
            return value  # type: ignore[no-any-return]  # the type was just tested
        if kind is port.Now:
            return b"%d" % (self.now + value.plus)
        if kind is port.Result:
            return b"%d" % self._result(value)
        if kind is port.Incarnation:
            return self.incarnation
        return b"%016d%s" % (self.now, secrets.token_hex(2).encode())

    def _result(self, value: port.Result) -> int:
        result = self.results[value.operation]
        return int(result[value.item]) if type(result) is list else int(result) + value.item

    # --- receipts -------------------------------------------------------------------------------

    def seen_receipt(self) -> bool:
        """Whether the batch had been applied before; `GuardFailed` if it had been refused."""
        receipt = self.batch.receipt
        if receipt is None:
            return False
        field = _RECEIPT_FIELD + receipt.writer
        last, failures = self.state.map_fields(self.bucket_head, (field, field + "!"))
        if last is None or receipt.n > int(last):
            return False
        if failures and b"%d" % receipt.n in failures.split(b","):
            raise port.GuardFailed(-2)
        return True

    def remember_receipt(self, *, failed: bool) -> None:
        """Note that the batch is done with, one way or the other."""
        receipt = self.batch.receipt
        if receipt is None:
            return
        field = _RECEIPT_FIELD + receipt.writer
        entry = {field: b"%d" % receipt.n}
        if failed:
            (failures,) = self.state.map_fields(self.bucket_head, (field + "!",))
            kept = failures.split(b",")[1 - _FAILURES_KEPT :] if failures else []
            entry[field + "!"] = b",".join([*kept, b"%d" % receipt.n])
        self.state.map_put(self.bucket_head, entry)
