"""SQL of others is refused before any engine sees it, unless it is one statement that reads."""

from __future__ import annotations

import pytest

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.archive.read_only import read_only

READS = [
    "SELECT 1",
    "  select role, count() from context_conversations group by role",
    "WITH 1 AS a SELECT a",
    "-- why\nSELECT 1 -- done",
    "/* ; */ SELECT ';', 'INTO OUTFILE', 'it''s', 'a\\'b; DROP'",
    'SELECT `into`, "settings" = 1, `insert` FROM t',
    "SELECT format('{}', 'x'), insert('abc', 1, 1, 'z'), sum(file), `url` FROM numbers(3)",
    "SELECT * FROM generateRandom('a String') LIMIT 1",
    "SELECT 'file(', file FROM t WHERE content = 'SELECT * FROM url(1)'",
    "SHOW TABLES",
    "DESCRIBE TABLE context_conversations",
    "EXPLAIN indexes = 1 SELECT 1",
    "EXISTS context_conversations",
    "SELECT 'typographic ‘quotes’, $x$ and a \0'",  # noqa: RUF001 - that is what is tried
    "SELECT {x:String} # a comment",
]
REFUSED = [
    "",
    ";",
    "-- nothing",
    "(SELECT 1)",
    "DROP TABLE x",
    "INSERT INTO x VALUES (1)",
    "SET readonly = 0",
    "SELECT 1; DROP TABLE x",
    "SELECT 1; SELECT 2",
    "SELECT 1 /* */ ; -- \n DROP TABLE x",
    "WITH 1 AS a INSERT INTO x SELECT a",
    "WITH 1 AS a INSERT x SELECT a",
    "EXPLAIN INSERT INTO x SELECT 1",
    "SELECT 1 INTO OUTFILE '/x'",
    "SELECT 1 into/**/outfile '/x'",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "SELECT * FROM (SELECT 1 SETTINGS max_threads=1)",
    "SELECT 1 FORMAT CSV",
    "SELECT * FROM file('/etc/passwd')",
    "SELECT * FROM FILE ('/etc/passwd')",
    "SELECT * FROM file /* */ ('/etc/passwd')",
    "SELECT * FROM `file`('/etc/passwd')",
    "SELECT * FROM \"file\"('/etc/passwd')",
    "SELECT * FROM `fi\\x6ce`('/etc/passwd')",
    "SELECT * FROM t, s3Cluster('c', 'http://x')",
    "SELECT 1 IN url('http://x')",
    "DESCRIBE url('http://x')",
    "EXPLAIN SELECT * FROM remoteSecure('x', 'y')",
    "SELECT * FROM icebergS3('x')",
    "SELECT * FROM executable('x', 'TSV', 'a String')",
    "SELECT * FROM Python(secrets)",
    "SELECT 'open",
    "SELECT $a$ ; DROP TABLE x $a$",
    "SELECT ‘ ' ’; DROP TABLE x; SELECT ‘ ' ’",  # noqa: RUF001 - quotes, to ClickHouse
    "SELECT 1 \0",
    "SELECT " + "1," * 60_000 + "1",
]


@pytest.mark.parametrize("sql", READS)
def test_what_reads_is_let_through(sql: str):
    assert read_only(sql) == sql


@pytest.mark.parametrize("sql", ["SELECT 1;", "SELECT 1 ; ;\n", "SELECT ';';-- done;"])
def test_the_end_of_a_statement_is_taken_off(sql: str):
    assert read_only(sql).rstrip() in ("SELECT 1", "SELECT ';'")


@pytest.mark.parametrize("sql", REFUSED)
def test_all_else_is_refused(sql: str):
    with pytest.raises(InvalidInputError, match="a question to the archive"):
        read_only(sql)


def test_the_refusal_quotes_no_content():
    with pytest.raises(InvalidInputError) as failed:
        read_only("SELECT 'a secret' INTO OUTFILE 'b secret'")

    assert "secret" not in str(failed.value)
