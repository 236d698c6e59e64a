"""Feed a target what atheris finds: `make fuzz` (Linux and macOS; no part of `make test`).

    python test/fuzz/fuzz.py TARGET [options of libFuzzer]

An input that breaks a target is written beside where this runs; it belongs into `KNOWN` of
`test_targets.py`, with the mend.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["aiecs", "targets"]):
    from targets import TARGETS


def main() -> None:
    """The target that the first argument names, until libFuzzer's options say stop."""
    program, name, *options = sys.argv
    atheris.Setup([program, *options], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
