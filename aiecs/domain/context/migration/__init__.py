"""Moving everything from one store into another, byte by byte.

A session, a thread and the items of a namespace are moved as one each: small ones in one batch,
larger ones under a mark that says that parts are missing. So a move can end anywhere, by an error
or a kill; the next one goes on with what is missing, and passes over what is there.
"""

from aiecs.domain.context.migration.migrate import migrate
from aiecs.domain.context.migration.report import MigrationReport, Progress, Trouble

__all__ = ["MigrationReport", "Progress", "Trouble", "migrate"]
