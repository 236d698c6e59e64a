"""How much of the machine's memory this process holds."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_STATM = Path("/proc/self/statm")


def process_memory_share() -> float:
    """Resident memory of this process as a share of the machine's, 0.0 to 1.0; 0.0 if unknown."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        resident = int(_STATM.read_text(encoding="ascii").split()[1])
        return min(1.0, resident / os.sysconf("SC_PHYS_PAGES"))
    with suppress(ImportError, OSError, ValueError, AttributeError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return min(1.0, peak / total)
    return 0.0
