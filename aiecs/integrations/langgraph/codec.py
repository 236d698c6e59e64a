"""Between values and what is stored of them: kinds and plain bytes, sealed or not."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from aiecs.core.errors import CorruptRecordError, InvalidInputError
from aiecs.core.interface.store import MAX_RECORD_BYTES
from aiecs.domain.context.thread_state import compression
from aiecs.integrations.langgraph.strict import OnBlocked, refusing

MSGPACK: Final = "msgpack"
_KINDS: Final = frozenset({"null", "bytes", "bytearray", MSGPACK})
_PLAIN, _COMPRESSED, _SEALED = b"0", b"1", b"2"


class Codec:
    """One serializer, taken apart: values to bytes, and bytes to what may lie in a store.

    LangGraph's own serializer writes msgpack, which can be cut into its parts (`parts`); around it
    `EncryptedSerializer` seals each part by itself. Of any other serializer the bytes are kept as
    they come.
    """

    def __init__(
        self, serde: SerializerProtocol, on_blocked: OnBlocked = "raise", *, compress: bool = False
    ) -> None:
        self.serde = serde
        self.on_blocked: OnBlocked = on_blocked
        self.compress = compress
        if compress:
            compression.require()
        self._cipher = None
        self._plain = serde
        if isinstance(serde, EncryptedSerializer):
            self._cipher = serde.cipher
            self._plain = serde.serde
        self.parts = isinstance(self._plain, JsonPlusSerializer)
        if getattr(self._plain, "pickle_fallback", False):
            raise InvalidInputError("pickle_fallback=True: a pickle runs code when it is read")

    def encode(self, value: Any) -> tuple[str, bytes]:
        """The kind of a value, and its plain bytes; `InvalidInputError` for what has none."""
        try:
            kind, data = self._plain.dumps_typed(value)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(f"a value of the state cannot be stored: {error}") from error
        return kind, data

    def decode(self, kind: str, data: bytes) -> Any:
        """The value of plain bytes; `BlockedTypeError` for types that are not allowed."""
        if self.parts and kind not in _KINDS:
            raise CorruptRecordError("a stored value is of no kind that is ever written")
        with refusing() if self.on_blocked == "raise" else nullcontext():
            try:
                return self._plain.loads_typed((kind, data))
            except (ValueError, TypeError) as error:
                raise CorruptRecordError("a stored value cannot be decoded") from error

    def seal(self, plain: bytes | memoryview) -> bytes:
        """What may be stored of plain bytes."""
        if self._cipher is None:
            fits = self.compress and len(plain) <= MAX_RECORD_BYTES
            small = compression.compressed(plain) if fits else None
            return b"".join((_PLAIN, plain) if small is None else (_COMPRESSED, small))
        name, sealed = self._cipher.encrypt(bytes(plain))
        label = name.encode()
        return b"".join((_SEALED, len(label).to_bytes(), label, sealed))

    def unseal(self, stored: bytes) -> bytes:
        """The plain bytes of what is stored; `CorruptRecordError` for what was changed."""
        mark = stored[:1]
        if self._cipher is None and mark == _PLAIN:
            return stored[1:]
        if self._cipher is None and mark == _COMPRESSED:
            return compression.expanded(stored[1:], MAX_RECORD_BYTES)
        if self._cipher is None or mark != _SEALED:
            raise CorruptRecordError("a stored value is not sealed as this saver would have it")
        start = 2 + stored[1]
        try:
            return self._cipher.decrypt(stored[2:start].decode(), stored[start:])
        except (ValueError, AssertionError) as error:
            raise CorruptRecordError("a stored value was sealed with another key") from error
