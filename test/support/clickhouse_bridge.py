"""A ClickHouse server for tests: the real engine (chDB) behind enough of its HTTP interface.

    python clickhouse_bridge.py PORT DIRECTORY        (the password is in AIECS_BRIDGE_PASSWORD)

The drivers of applications talk to it as to a server: queries, inserts in any format with lz4, zstd
or gzip bodies, settings, parameters, errors with their numbers. What is inserted never stands in
the statement's text, because chDB cuts that at a `;`.

It does not model: the queue of asynchronous inserts, users and rights (one user with one password),
sessions and their locks, replication and its deduplication, TLS, the query log.

`POST /_control` takes a JSON object (no password, no fault):

    {"faults": [{"kind": ..., "times": 3, "match": "INSERT", ...}, ...]}    the faults from now on
    {"wait": {"faults": 2}, "seconds": 10}                answers when that many have happened

Each answers with the statistics: `requests`, `inserts` (statements that arrived), `rows` (in
inserts that were applied, before deduplication), `faults`. The first fault that matches a request
is used up by it. Kinds:

    error         an answer with the ClickHouse error `code` (and HTTP `status`, 500)
    unavailable   an answer with HTTP status 503 and no ClickHouse error, as from a proxy
    slow          `seconds` of waiting, or until the faults are changed; then as usual, whether the
                  client still listens or not
    lose_request  the connection ends before anything is done
    lose_reply    it is done, and the connection ends
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time
import zlib
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

_NO_SETTINGS = re.compile(
    "query|database|default_format|session_id|session_timeout|session_check|query_id|compress|"
    "decompress|user|password|client_protocol_version|wait_end_of_query|buffer_size|role|quota_key|"
    "enable_http_compression|send_progress_in_http_headers|http_headers_progress_interval_ms|"
    "cancel_http_readonly_queries_on_client_close|param_.*"
)
_FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(
    rb"\s*(INSERT\s+INTO\s[^\n]*?)\s*(SETTINGS\s[^\n]*?)?\s*\bFORMAT\s+(\w+)[ \t]*\n", re.IGNORECASE
)
_NOT_FOUND = (60, 81)
_COMPRESSED_FROM = 4096


class Faults:
    """What is to go wrong, and what has happened; shared by all requests."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._armed: list[dict[str, Any]] = []
        self._counts = dict.fromkeys(("requests", "inserts", "rows", "faults"), 0)

    def control(self, order: dict[str, Any]) -> dict[str, int]:
        with self._changed:
            if "faults" in order:
                self._armed = order["faults"]
                self._changed.notify_all()
            wanted = order.get("wait", {})
            self._changed.wait_for(
                lambda: all(self._counts[name] >= least for name, least in wanted.items()),
                order.get("seconds", 10),
            )
            return dict(self._counts)

    def count(self, **more: int) -> None:
        with self._changed:
            for name, number in more.items():
                self._counts[name] += number
            self._changed.notify_all()

    def take(self, statement: bytes) -> dict[str, Any]:
        """The fault for this request, {} for none."""
        beginning = statement[:2000].decode(errors="replace")
        with self._changed:
            for fault in self._armed:
                if fault.get("times", 1) > 0 and fault.get("match", "INSERT") in beginning:
                    fault["times"] = fault.get("times", 1) - 1
                    self._counts["faults"] += 1
                    self._changed.notify_all()
                    return fault
        return {}

    def wait(self, fault: dict[str, Any]) -> None:
        """Until the fault's seconds are over, or other faults are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: fault not in self._armed, fault.get("seconds", 60))


class Engine:
    """The embedded ClickHouse; every request gets a handle of its own, so settings stay apart."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._kept = chdb.connect(path)

    def run(self, statement: bytes, options: dict[str, str], shape: str) -> Any:
        handle = chdb.connect(self._path)
        try:
            if options.get("database"):
                handle.query(f"USE {_quoted(options['database'], '`')}", "TSV")
            for name, value in options.items():
                if not _NO_SETTINGS.fullmatch(name):
                    handle.query(f"SET {name} = {_quoted(value)}", "TSV")
            parameters = {
                name.removeprefix("param_"): value
                for name, value in options.items()
                if name.startswith("param_")
            }
            with _from_file(statement) as safe:
                return handle.query(safe, shape, params=parameters)
        finally:
            handle.close()


@contextlib.contextmanager
def _from_file(statement: bytes):
    """An INSERT whose data are in a file instead of behind it; anything else as it is."""
    found = _INSERT.match(statement)
    if found is None:
        yield statement
        return
    with tempfile.NamedTemporaryFile(prefix="aiecs-insert-") as file:
        file.write(statement[found.end() :])
        file.flush()
        parts = (found[1], b"FROM INFILE", _quoted(file.name).encode(), found[2] or b"")
        yield b" ".join((*parts, b"FORMAT", found[3]))


def _quoted(text: str, mark: str = "'") -> str:
    escaped = text.replace("\\", "\\\\").replace(mark, f"\\{mark}")
    return f"{mark}{escaped}{mark}"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "aiecs-clickhouse-bridge"
    engine: Engine
    faults: Faults
    password: str

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log_message(self, *_: Any) -> None:
        """Nothing: there is one line for each request."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        try:
            body = self._body()
        except (ValueError, OSError):  # the client has gone in the middle of it
            self.close_connection = True
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        place = urlsplit(self.path)
        options = dict(parse_qsl(place.query, keep_blank_values=True))
        try:
            if place.path == "/ping":
                self._send(200, b"Ok.\n")
            elif place.path == "/_control":
                counts = self.faults.control(json.loads(body))
                self._send(200, json.dumps(counts).encode())
            elif not self._allowed(options):
                self._fail(403, 516, "Authentication failed (AUTHENTICATION_FAILED)")
            else:
                self._query(*self._statement(options, body))
        except OSError:  # the client does not listen any more
            self.close_connection = True

    def _allowed(self, options: dict[str, str]) -> bool:
        kind, _, login = self.headers.get("Authorization", "").partition(" ")
        if kind == "Basic":
            given = base64.b64decode(login).decode().partition(":")[2]
        else:
            given = self.headers.get("X-ClickHouse-Key", options.get("password", ""))
        return given == self.password

    def _statement(self, options: dict[str, str], body: bytes) -> tuple[bytes, dict[str, str]]:
        """The statement with its data, and the options, which a form may hold too."""
        kind = self.headers.get("Content-Type", "")
        if kind.startswith("multipart/form-data"):
            form = BytesParser().parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
            for part in form.get_payload():
                name = part.get_param("name", header="content-disposition")
                options[name] = part.get_payload(decode=True).decode()
            body = b""
        query = options.get("query", "").encode()
        return (query + b"\n" + body if query and body else query or body), options

    def _query(self, statement: bytes, options: dict[str, str]) -> None:
        is_insert = statement[:200].lstrip().upper().startswith(b"INSERT")
        self.faults.count(requests=1, inserts=int(is_insert))
        fault = self.faults.take(statement)
        match fault.get("kind"):
            case "slow":
                self.faults.wait(fault)
            case "error":
                code = fault["code"]
                return self._fail(fault.get("status", 500), code, "as the test wants (FAULT)")
            case "unavailable":
                return self._send(503, b"upstream is not available")
            case "lose_request":
                return self._hang_up()
        started = time.perf_counter_ns()
        shape = self._shape(statement, options)
        try:
            result = self.engine.run(statement, options, shape)
        except Exception as error:  # noqa: BLE001 - chDB has no type of its own for them
            found = re.search(r"Code: (\d+)", str(error))
            code = int(found[1]) if found else 1001
            return self._fail(404 if code in _NOT_FOUND else 500, code, str(error))
        rows = result.rows_read()
        self.faults.count(rows=rows if is_insert else 0)
        if fault.get("kind") == "lose_reply":
            return self._hang_up()
        summary = {
            "read_rows": str(rows),
            "written_rows": str(rows if is_insert else 0),
            "elapsed_ns": str(time.perf_counter_ns() - started),
        }
        out = result.bytes() or b""
        headers = {"X-ClickHouse-Summary": json.dumps(summary), "X-ClickHouse-Timezone": "UTC"}
        if out or not is_insert:
            headers["X-ClickHouse-Format"] = shape
        return self._send(200, out, headers, may_compress="enable_http_compression" in options)

    def _shape(self, statement: bytes, options: dict[str, str]) -> str:
        found = _FORMAT.search(statement[-300:])
        if found:
            return found[1].decode()
        named = self.headers.get("X-ClickHouse-Format") or options.get("default_format")
        return named or "TabSeparated"

    def _fail(self, status: int, code: int, text: str) -> None:
        body = text if text.startswith("Code:") else f"Code: {code}. DB::Exception: {text}"
        self._send(status, f"{body}\n".encode(), {"X-ClickHouse-Exception-Code": str(code)})

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        may_compress: bool = False,
    ) -> None:
        accepted = self.headers.get("Accept-Encoding", "")
        self.send_response(status)
        if may_compress and len(body) > _COMPRESSED_FROM and "gzip" in accepted:
            body = gzip.compress(body, 1)
            self.send_header("Content-Encoding", "gzip")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _body(self) -> bytes:
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        length = int(self.headers.get("Content-Length") or 0)
        data = b"".join(self._chunks()) if chunked else self.rfile.read(length)
        if not chunked and len(data) < length:
            raise ValueError("the body ends early")
        return _decoded(data, self.headers.get("Content-Encoding", ""))

    def _chunks(self):
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunk = self.rfile.read(size)
            if len(chunk) < size:
                raise ValueError("the body ends early")
            yield chunk
            self.rfile.readline()
        self.rfile.readline()


def _decoded(data: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.decompress(data)
        case "deflate":
            return zlib.decompress(data)
        case "lz4":
            import lz4.frame

            return lz4.frame.decompress(data)
        case "zstd":
            import zstandard

            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def main(port: str, directory: str) -> None:
    Handler.engine, Handler.faults = Engine(directory), Faults()
    Handler.password = os.environ.get("AIECS_BRIDGE_PASSWORD", "")
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
