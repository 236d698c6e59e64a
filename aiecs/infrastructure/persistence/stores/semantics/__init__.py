"""What a batch means, written once for the stores that run it in this process.

`execute` needs a `State`: plain reads and writes of maps, logs and indexes. Everything else
(guards before writes, logical expiry, receipts, stamps, sequences) is here. The Redis store says
the same in Lua; the differential test holds the two together.
"""

from aiecs.infrastructure.persistence.stores.semantics.program import Program, execute, program_of
from aiecs.infrastructure.persistence.stores.semantics.state import State

__all__ = ["Program", "State", "execute", "program_of"]
