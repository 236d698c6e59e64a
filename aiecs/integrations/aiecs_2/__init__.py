"""The data of PyPI's `aiecs` 2.2.0, another product of the same import name, as import records.

    async with opened("redis://old-host:6379/0", on_problem=print) as source:
        async with importer_of(engine, on_refused) as importer:
            async for record in source.records():
                await importer.add(record, place_of(record))

The old server is only read. What is imported has the order in which it was said, whatever the order
of the lists; importing it again changes nothing.
"""

from aiecs.integrations.aiecs_2.source import Source, is_aiecs_2, opened, place_of

__all__ = ["Source", "is_aiecs_2", "opened", "place_of"]
