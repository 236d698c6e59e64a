"""SQL that somebody else wrote, looked at before an engine sees it: does it only read?

A server can be told to refuse writes (`readonly`), and is. What that does not cover is refused
here: a second statement, a file on the machine of an embedded engine, functions that reach out to
other machines, settings that lift the time limit. Only words are looked at, no grammar, so a name
of the kind has to stand in quotes where it is meant as a column.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple, NoReturn

from aiecs.core.errors import InvalidInputError
from aiecs.infrastructure.persistence.archive.values import is_text

#: How a statement that reads begins.
READS: Final = ("SELECT", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS")
_MOST_CHARACTERS: Final = 100_000

#: Functions that reach for files, programs, Python's variables or other machines. Several come
#: with endings, as `s3Cluster` and `icebergS3`.
_REACHES_OUT: Final = re.compile(
    r"""(arrowflight|azureblobstorage|cluster|clusterallreplicas|cosn|deltalake|executable|file
    |filesystem|gcs|hascolumnintable|hdfs|hive|hudi|iceberg|jdbc|mongodb|mysql|odbc|oss|paimon
    |postgresql|python|redis|remote|remotesecure|s3|sqlite|url|ytsaurus)
    (local|s3|gcs|azure|hdfs|cluster)*""",
    re.IGNORECASE | re.VERBOSE,
)
_TOKEN: Final = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/)
    |(?P<text>'(?:[^'\\]|\\.|'')*')
    |(?P<quoted>"(?:[^"\\]|\\.|"")*"|`(?:[^`\\]|\\.|``)*`)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<mark>[^'"`$\x00\u2018\u2019\u201c\u201d\#])""",
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    kind: str
    text: str
    start: int = 0

    @property
    def name(self) -> str:
        """What a function of this name would be called."""
        return self.text[1:-1] if self.kind == "quoted" else self.text

    def says(self, *words: str) -> bool:
        """Whether it is one of these words, which are in capitals."""
        return self.kind == "word" and self.text.upper() in words


_END: Final = _Token("end", "")


def read_only(sql: str) -> str:
    """The statement without what follows it; `InvalidInputError` unless it is one that reads.

    The error says what is in the way, and quotes nothing but names.
    """
    if not isinstance(sql, str):
        _refuse(f"is a str, not {type(sql).__name__}")
    if len(sql) > _MOST_CHARACTERS:
        _refuse(f"is longer than {_MOST_CHARACTERS:,} characters")
    if not is_text(sql):
        _refuse("holds no lone surrogates")
    tokens = list(_tokens(sql))
    while tokens and tokens[-1].text == ";":
        sql = sql[: tokens.pop().start]
    if not tokens or not tokens[0].says(*READS):
        _refuse(f"begins with one of {', '.join(READS)}")
    for token, following, third in zip(tokens, *_behind(tokens), strict=True):
        _check(token, following, third)
    return sql


def _behind(tokens: list[_Token]) -> tuple[list[_Token], list[_Token]]:
    return [*tokens[1:], _END], [*tokens[2:], _END, _END][: len(tokens)]


def _check(token: _Token, following: _Token, third: _Token) -> None:
    if token.text == ";":
        _refuse("is one statement: a ; stands at its end only")
    if token.says("INTO") or (token.says("INSERT") and following.text != "("):
        _refuse("writes nothing: no INSERT, no INTO")
    if token.says("SETTINGS") and third.text == "=":
        _refuse("has no SETTINGS: its time limit is the caller's")
    if token.says("FORMAT") and following.kind == "word" and third is _END:
        _refuse("has no FORMAT: rows come as Python values")
    if token.kind in ("word", "quoted") and following.text == "(":
        _check_call(token.name)


def _check_call(function: str) -> None:
    if "\\" in function:
        _refuse("has no function whose name is written with a backslash")
    if _REACHES_OUT.fullmatch(function):
        _refuse(f"reads the archive only, and {function.lower()}() reaches out of it")


def _tokens(sql: str) -> Iterator[_Token]:
    place = 0
    while place < len(sql):
        found = _TOKEN.match(sql, place)
        if found is None:
            _refuse("has a quote without its end, or a character that is allowed in quotes only")
        if found.lastgroup != "blank":
            yield _Token(str(found.lastgroup), found[0], place)
        place = found.end()


def _refuse(why: str) -> NoReturn:
    raise InvalidInputError(f"a question to the archive {why}")
