"""The process that moves slots: see `resharding`."""

from __future__ import annotations

import sys

from redis import Redis

_MIGRATE_MILLISECONDS = 5_000
_KEYS = 1_000


def move(source: int, source_id: str, target: int, target_id: str, slots: range) -> int:
    moved = 0
    with Redis(port=source) as giving, Redis(port=target) as taking:
        for slot in slots:
            taking.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            giving.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            while keys := giving.execute_command("CLUSTER GETKEYSINSLOT", slot, _KEYS):
                for key in keys:  # one by one: what belongs together is apart for a moment
                    giving.execute_command(
                        "MIGRATE", "127.0.0.1", target, key, 0, _MIGRATE_MILLISECONDS
                    )
                    moved += 1
            for client in (taking, giving):
                client.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
    return moved


if __name__ == "__main__":
    source, source_id, target, target_id, start, stop = sys.argv[1:]
    slots = range(int(start), int(stop))
    sys.stdout.write(str(move(int(source), source_id, int(target), target_id, slots)))
