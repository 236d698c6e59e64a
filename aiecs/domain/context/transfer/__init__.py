"""Moving sessions from one store to another: everything they hold, as a stream of records.

`Exporter` makes the records, `Importer` takes them up. What comes out of the other store is equal:
ids, order, sequences, times, counters, metadata. Not carried: the idempotency keys of past calls,
and the time of a thread's last write. Importing the same records again changes nothing, and an
import that was interrupted goes on where it ended.
"""

from aiecs.domain.context.transfer.records import (
    CheckpointRecord,
    MessageRecord,
    Record,
    SessionRecord,
    TaskContextRecord,
    WritesRecord,
)

__all__ = [
    "CheckpointRecord",
    "MessageRecord",
    "Record",
    "SessionRecord",
    "TaskContextRecord",
    "WritesRecord",
]
