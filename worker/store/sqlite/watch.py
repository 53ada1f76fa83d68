"""Connections that tell the advisor which statements ran and how long each took, its rows included."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

from worker.store.advisor.advisor import Advisor
from worker.store.advisor.findings import Finding
from worker.store.advisor.operation import Operation, Plan, Verb, sqlite_plan
from worker.store.advisor.tally import Tally
from worker.store.bounded import MARK

TEXT_MAX = 300
#: An answer of more rows is not compared.
FOLLOWED_ROWS_MAX = 100


class Watched(sqlite3.Connection):
    """A connection that keeps what ran in it since it was lent, and for how long, until `ran` is asked.

    A statement counts once however often it ran meanwhile: inside a file there is no way to save by asking for more at
    once, but each block costs a transaction.
    """

    advisor: Advisor | None = None
    #: statement -> seconds, rows changed
    _ran: dict[str, list[float]]
    _last: str = ""
    _since = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._ran = {}  # the first statement of all may fail before it is lent

    def begin(self) -> None:
        """It is lent."""
        self._ran, self._last = {}, ""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """As the base class, noted; the answer to one in a few reads is kept, to be compared with the next."""
        if self.advisor is None:
            return super().execute(sql, parameters)
        self._note(sql)
        cursor = super().execute(sql, parameters)
        if sql.lstrip()[:6] == "SELECT" and not self.in_transaction:
            tallies = self.advisor.tallies
            tally = tallies.of(sql, lambda: operation(sql))
            if tally is not None and tallies.looks(tally) and tallies.follows(request := _request(sql, parameters)):
                rows = cursor.fetchall()
                self._answered(tally, request, rows)
                return cast(sqlite3.Cursor, Kept(rows))
        return cursor

    def executemany(self, sql: str, parameters: Any, /) -> sqlite3.Cursor:
        """As the base class, noted."""
        if self.advisor is not None:
            self._note(sql)
        return super().executemany(sql, parameters)

    def ran(self) -> None:
        """It is given back: tell the advisor."""
        if self.advisor is None:
            return
        self._note("")
        for sql, (seconds, times) in self._ran.items():
            if sql.split(maxsplit=1)[0] not in _VERBS:
                continue  # it makes tables
            if tally := self.advisor.tallies.of(sql, lambda sql=sql: operation(sql)):  # type: ignore[misc]
                self.advisor.saw(tally, seconds, int(times), sql if tally.operation.verb in _EXPLAINED else None)

    def _note(self, sql: str) -> None:
        now = time.perf_counter()
        if self._last:
            spent = self._ran.setdefault(self._last, [0.0, 0])
            spent[0] += now - self._since
            spent[1] += 1
        self._last, self._since = sql, now

    def _answered(self, tally: Tally, request: int, rows: list[Any]) -> None:
        if self.advisor is None:
            return
        tally.rows = max(tally.rows, len(rows))
        if len(rows) <= FOLLOWED_ROWS_MAX:
            self.advisor.tallies.answered(tally, request, hashlib.blake2b(repr(rows).encode(), digest_size=8).digest())


class Kept:
    """Rows that were fetched already, as a cursor gives them."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Any]:
        return self._rows

    def fetchall(self) -> list[Any]:
        """The rest."""
        return list(self._rows)

    def fetchone(self) -> Any:
        """The next one, or None."""
        return next(self._rows, None)


class Asker:
    """Asks SQLite for plans.

    Args:
        reading: lends a connection.
    """

    def __init__(self, reading: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._reading = reading

    def explain(self, tally: Tally, sql: str) -> Plan | None:
        """The plan of a statement, which depends on none of its values."""
        with self._reading() as connection:
            # Explaining does not look whether the tables have changed since the statement was prepared: this does.
            sqlite3.Connection.execute(connection, "SELECT count(*) FROM sqlite_schema").fetchone()
            fresh = f"EXPLAIN QUERY PLAN {sql} /* {time.monotonic_ns()} */"
            lines = [str(row[3]) for row in sqlite3.Connection.execute(connection, fresh, _Anything())]
            return sqlite_plan(lines, tally.operation)

    def unused(self) -> Sequence[Finding]:
        """SQLite does not count how often an index is used."""
        return ()


class _Anything(dict[str, Any]):
    """A value for every name."""

    def __missing__(self, key: str) -> None:
        return None


#: Columns that name one row, or the few that are asked for.
_UNIQUE: Mapping[str, Sequence[tuple[str, ...]]] = {
    "meta": (("one",),),
    "leases": (("name",),),
    "limits": (("name",),),
    "runs": (("name", "slot"),),
}
_VERBS: Mapping[str, Verb] = {
    "SELECT": Verb.FIND,
    "INSERT": Verb.INSERT,
    "UPDATE": Verb.UPDATE,
    "DELETE": Verb.DELETE,
    "COMMIT": Verb.COMMIT,
}
_EXPLAINED = frozenset({Verb.FIND, Verb.AGGREGATE, Verb.UPDATE, Verb.DELETE})
_TARGET = re.compile(r"\b(?:FROM|INTO|UPDATE)\s+(\w+)", re.IGNORECASE)
_GROUPS = re.compile(r"\bGROUP BY\b|\b(?:count|sum|max|min|avg)\s*\(", re.IGNORECASE)
_WHERE = re.compile(r"\bWHERE\b(.*?)(?:\bGROUP BY\b|\bORDER BY\b|\bLIMIT\b|\bUNION\b|\bON CONFLICT\b|$)", re.IGNORECASE | re.DOTALL)
_ORDER = re.compile(r"\bORDER BY\b(.*?)(?:\bLIMIT\b|$)", re.IGNORECASE | re.DOTALL)
_CONDITION = re.compile(r"(?:\w+\.)?(\w+)\s*(=|<>|!=|<=|>=|<|>|IN\b|IS\b|NOT\b|BETWEEN\b)", re.IGNORECASE)
_PARENTHESES = re.compile(r"\([^()]*\)")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


def operation(sql: str) -> Operation:
    """The shape of a statement. It is its own text: the values of a request are never part of it."""
    bare = " ".join(_COMMENT.sub(" ", sql).split())
    verb = _VERBS.get(bare.partition(" ")[0], Verb.UPDATE)
    if verb is Verb.FIND and _GROUPS.search(bare):
        verb = Verb.AGGREGATE
    target = _TARGET.search(bare)
    where = _WHERE.search(bare)
    equal, ranges = _fields(where[1]) if where else ([], [])
    order = _order(bare)
    text = bare if len(bare) <= TEXT_MAX else f"{bare[:TEXT_MAX]} …"
    return Operation(
        "sqlite",
        target[1] if target else "",
        verb,
        text,
        equal=tuple(equal),
        order=tuple(order),
        ranges=tuple(ranges),
        by_id=any(set(columns) <= set(equal) for columns in _UNIQUE.get(target[1] if target else "", (("id",),))),
        limited=verb is not Verb.FIND or " LIMIT " in bare,
        bounded=MARK in sql,
        selects=where is not None,
    )


def _fields(where: str) -> tuple[list[str], list[str]]:
    flat = where
    while (flatter := _PARENTHESES.sub(" ", flat)) != flat:
        flat = flatter
    equal: list[str] = []
    ranges: list[str] = []
    for part in re.split(r"\bAND\b", flat, flags=re.IGNORECASE):
        if re.search(r"\bOR\b", part, re.IGNORECASE):
            continue  # each alternative wants an index of its own
        if found := _CONDITION.match(part.strip()):
            (equal if found[2].upper() in ("=", "IN") else ranges).append(found[1])
    return list(dict.fromkeys(equal)), [name for name in dict.fromkeys(ranges) if name not in equal]


def _order(sql: str) -> list[tuple[str, int]]:
    found = _ORDER.search(sql)
    keys: list[tuple[str, int]] = []
    for part in found[1].split(",") if found else ():
        name = re.fullmatch(r"\s*(?:\w+\.)?([A-Za-z_]\w*)(\s+DESC|\s+ASC)?\s*", part, re.IGNORECASE)
        if name:
            keys.append((name[1], -1 if (name[2] or "").strip().upper() == "DESC" else 1))
    return keys


def _request(sql: str, parameters: Any) -> int:
    values = tuple(parameters.values()) if isinstance(parameters, dict) else tuple(parameters)
    try:
        return hash((sql, values))
    except TypeError:
        return hash(sql)
