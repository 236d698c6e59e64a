"""Moving sessions from one store to another: everything they hold, as a stream of records.

`exporter_of(engine)` makes the records, `importer_of(engine, ...)` takes them up. What comes out of
the other store is equal: ids, order, sequences, times, counters, metadata. Not carried: the
idempotency keys of past calls, and the time of a thread's last write. Importing the same records
again changes nothing, and an import that was interrupted goes on where it ended.
"""

from aiecs.domain.context.transfer.access import exporter_of, importer_of
from aiecs.domain.context.transfer.exporting import Exporter
from aiecs.domain.context.transfer.importing import Importer
from aiecs.domain.context.transfer.units import Counts
from aiecs.domain.context.transfer_records import (
    AgentMessageRecord,
    CheckpointRecord,
    ConversationRecord,
    GraphCheckpointRecord,
    ItemRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    UserRecord,
    WritesRecord,
)

__all__ = [
    "AgentMessageRecord",
    "CheckpointRecord",
    "ConversationRecord",
    "Counts",
    "Exporter",
    "GraphCheckpointRecord",
    "Importer",
    "ItemRecord",
    "MessageRecord",
    "Record",
    "SessionRecord",
    "TaskContextRecord",
    "UserRecord",
    "WritesRecord",
    "exporter_of",
    "importer_of",
]
