"""Every store that is broken on purpose."""

from __future__ import annotations

from contract import gathering_mutants, small_mutants
from contract.mutants import MUTANTS

__all__ = ["MUTANTS", "gathering_mutants", "small_mutants"]
