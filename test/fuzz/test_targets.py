"""The fuzz targets hold for inputs that are worth keeping; `make fuzz` looks for others."""

from __future__ import annotations

import pytest
from fuzz.targets import TARGETS

KNOWN = {
    "codec": (
        b"",
        b'{"a":1,"~":["tuple",[1,2]]}',
        b'{"~":["tuple",[1,{"~":["datetime","2020-01-01T00:00:00+00:00"]}]]}',
        b'{"~":["set",[[1],[1]]]}',
        b'{"~":["decimal","NaN"]}',
        b"[" * 1_000,
        b"\xff\xfe",
    ),
    "keys": (b"", b"a:b\xffa%3Ab", b"{a}\xff{b}", b"a/b\xffa%2Fb", "é\xffe\u0301".encode()),
    "replies": (
        b"",
        b"\x06:12\r\n*0\r\n%0\r\n*0\n",
        b"*2\r\n:0\r\n,inf\r\n",
        b"%1\r\n*0\r\n:1\r\n",
        b"*3333333332\r\n",
        b"\x00*2\r\n$1\r\nx\r\n$-1\r\n*0\r\n",
        b"\x02*2\r\n$1\r\n1\r\n$1\r\n1\r\n*1\r\n$1\r\n1\r\n:1\r\n-OOM\r\n",
        b"\x06*2\r\n$1\r\n1\r\n$-1\r\n*2\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n",
        b"\x00*2\r\n:1\r\n*5\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n",
        b"\x00*0\r\n*2\r\n:0\r\n$1\r\nx\r\n*1\r\n:4\r\n-ERR\r\n",
        b"\x00*1\r\n" * 20,
        b"\x00$5\r\nab",
    ),
}


@pytest.mark.parametrize(
    ("name", "data"), [(name, data) for name, known in KNOWN.items() for data in known]
)
def test_known_inputs(name: str, data: bytes):
    TARGETS[name](data)


def test_every_target_has_inputs():
    assert KNOWN.keys() == TARGETS.keys()
