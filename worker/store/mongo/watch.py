"""What is asked of a MongoDB becomes a line of the advisor; plans and unused indexes are asked for on its behalf."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import bson

from worker.store.advisor.advisor import Advisor
from worker.store.advisor.findings import Finding, unused
from worker.store.advisor.operation import Index, Operation, Plan, Verb, mongo_plan
from worker.store.advisor.tally import Tally
from worker.store.bounded import MARK
from worker.store.mongo.documents import Document
from worker.store.mongo.queries import INDEXES

Command = Mapping[str, Any]

#: The commands of the store.
VERBS: Mapping[str, Verb] = {
    "find": Verb.FIND,
    "aggregate": Verb.AGGREGATE,
    "insert": Verb.INSERT,
    "update": Verb.UPDATE,
    "findAndModify": Verb.UPDATE,
    "delete": Verb.DELETE,
}
_RANGES = frozenset({"$gt", "$gte", "$lt", "$lte", "$ne", "$nin", "$exists", "$regex"})
#: An index is called unused once the server has counted for so long.
UNUSED_DAYS = 7.0
_ENFORCING = frozenset({"unique", "expireAfterSeconds"})
#: An answer of more documents is not compared.
FOLLOWED_DOCUMENTS_MAX = 100


class Watch:
    """Tells the advisor of each operation of a `MongoCollection`, through which all of the store go.

    Not a `CommandListener` of the driver: one that does nothing costs 18 µs a read, 5 % of it, and this costs a third of that.
    So the time of an operation has in it the wait for a connection and all parts of the answer.
    """

    def __init__(self, advisor: Advisor) -> None:
        self._advisor, self._tallies = advisor, advisor.tallies

    def saw(self, name: str, command: Command, seconds: float, answer: object) -> None:
        """Count an operation that went well: how long a failure took says nothing of the shape.

        Args:
            name: of the command; command: what of it makes its shape, as the server takes it.
            answer: the documents, or how many were found.
        """
        tally = self._tallies.of(_key(name, command), lambda: operation(name, command))
        if tally is None:
            return
        rows = len(answer) if isinstance(answer, list) else answer if isinstance(answer, int) else 1
        asks = tally.operation
        self._advisor.saw(tally, seconds, rows, command if asks.selects and not asks.by_id and asks.verb is not Verb.INSERT else None)
        if asks.verb is Verb.FIND and rows <= FOLLOWED_DOCUMENTS_MAX and self._tallies.looks(tally):
            request = hash(bson.encode(command["filter"]))
            if self._tallies.follows(request):
                digest = hashlib.blake2b(bson.encode({"_": answer}), digest_size=8).digest()
                self._tallies.answered(tally, hash((tally, request)), digest)


def _key(name: str, command: Command) -> Hashable:
    """What tells shapes apart, as cheap as can be: names of fields and of operators, two levels deep."""
    target = command[name]
    if name == "find":
        sort = command.get("sort")
        shape = _shape(command.get("filter") or {})
        return name, target, shape, tuple(sort) if sort else None, command.get("limit", 0) > 0, command.get("comment")
    if name == "aggregate":
        return name, target, tuple([_stage(stage) for stage in command["pipeline"]])
    if name == "insert":
        return name, target
    return name, target, _shape(_filter(name, command))


def _shape(where: Command) -> Hashable:
    return tuple(
        [
            (key, tuple(value) if isinstance(value, dict) else tuple(map(_shape, value)) if key in ("$or", "$and", "$nor") else None)
            for key, value in where.items()
        ]
    )


def _stage(stage: Command) -> Hashable:
    for name, value in stage.items():
        if name == "$match":
            return name, _shape(value)
        return (name, *value, str(value.get("_id"))) if isinstance(value, dict) else (name,)
    return ()


def _filter(name: str, command: Command) -> Command:
    """The condition; of a batch that of its first statement."""
    if name in ("update", "delete"):
        first = command.get(f"{name}s") or [{}]
        return dict(first[0].get("q") or {})
    if name == "aggregate":
        first = command["pipeline"][:1]
        return dict(first[0].get("$match", {})) if first else {}
    return dict(command.get("filter") or command.get("query") or {})


def operation(name: str, command: Command) -> Operation:
    """The shape of a command, for people and for the index it wants."""
    where, verb, target = _filter(name, command), VERBS[name], str(command[name])
    equal, ranges = _fields(where)
    order = tuple((str(key), int(way)) for key, way in dict(command.get("sort") or {}).items() if isinstance(way, int | float))
    limited = name != "find" or bool(command.get("limit", 0))
    words = [f"{target}.{name}", _text(where)]
    if name == "aggregate":
        words += [f"{stage}" for stage in (next(iter(each), "") for each in command["pipeline"]) if stage != "$match"]
    if order:
        words.append("sort {" + ", ".join(f"{key}: {way}" for key, way in order) + "}")
    if command.get("projection"):
        words.append("fields {" + ", ".join(command["projection"]) + "}")
    if name == "find" and limited:
        words.append("limit")
    if name == "insert":
        words[1:] = []
    return Operation(
        "mongodb",
        target,
        verb,
        " ".join(words),
        equal=tuple(equal),
        order=order,
        ranges=tuple(ranges),
        by_id="_id" in equal,
        limited=limited,
        bounded=str(command.get("comment", "")).startswith(MARK),
        selects=bool(where) or bool(order),
    )


def _fields(where: Command) -> tuple[list[str], list[str]]:
    """Fields with an equality, and those with a range. Alternatives of `$or` are left out: each wants an index of its own."""
    equal: list[str] = []
    ranges: list[str] = []
    for key, value in where.items():
        if key == "$and":
            for each in value:
                one, other = _fields(each)
                equal, ranges = equal + one, ranges + other
        elif not key.startswith("$"):
            operators = set(value) if isinstance(value, dict) else set()
            (ranges if operators & _RANGES else equal).append(key)
    return list(dict.fromkeys(equal)), [key for key in dict.fromkeys(ranges) if key not in equal]


def _text(where: Command) -> str:
    parts = []
    for key, value in where.items():
        if key in ("$or", "$and", "$nor"):
            parts.append(f"{key}: [{', '.join(sorted({_text(each) for each in value}))}]")
        elif isinstance(value, dict) and value and all(str(name).startswith("$") for name in value):
            parts.append(f"{key}: {{{', '.join(f'{name}: ?' for name in value)}}}")
        else:
            parts.append(f"{key}: ?")
    return "{" + ", ".join(parts) + "}"


class Asker:
    """Asks the server for plans and indexes.

    Args:
        command: the answer of the database to a command; it maps errors as the store does.
    """

    def __init__(self, command: Callable[[Document], Document]) -> None:
        self._command = command

    def explain(self, tally: Tally, command: Command) -> Plan:
        """The plan of an operation, an update's as that of the read that finds its document."""
        name = next(iter(command))
        if name == "aggregate":
            asked: Document = {"aggregate": command[name], "pipeline": command["pipeline"], "cursor": {}}
        else:
            asked = {"find": command[name], "filter": _filter(name, command)}
            asked |= {key: command[key] for key in ("sort", "limit", "projection", "hint") if command.get(key)}
        plan = mongo_plan(self._command({"explain": asked, "verbosity": "queryPlanner"}))
        there = self._there(tally.operation.target) if plan.scans or plan.sorts else ()
        return Plan(plan.scans, plan.sorts, plan.indexes, tuple(there))

    def unused(self) -> Sequence[Finding]:
        """Indexes of our collections that the server has counted no use of for a week, each by what all shards say of it.

        A member of a replica set counts what it was asked itself. Indexes that enforce something have their use all the same.
        """
        found: list[Finding] = []
        for target in INDEXES:
            asked: Document = {"aggregate": target, "pipeline": [{"$indexStats": {}}], "cursor": {}}
            counted: dict[str, tuple[int, float]] = {}
            for row in self._command(asked)["cursor"]["firstBatch"]:
                name, ops, days = str(row["name"]), int(row["accesses"]["ops"]), _days(row["accesses"].get("since"))
                if name != "_id_" and not row.get("building") and not _ENFORCING & {*row.get("spec", {})}:
                    before, least = counted.get(name, (0, days))
                    counted[name] = (before + ops, min(least, days))
            idle = {name: days for name, (ops, days) in counted.items() if not ops and days >= UNUSED_DAYS}
            found += unused("mongodb", target, sorted(idle), min(idle.values())) if idle else []
        return found

    def _there(self, target: str) -> list[Index]:
        batch = self._command({"listIndexes": target})["cursor"]["firstBatch"]
        return [_index(each) for each in batch]


def _index(row: Document) -> Index:
    keys = tuple((str(key), int(way)) for key, way in row["key"].items() if way in (1, -1))
    return Index(keys, str(row["name"]), frozenset(row.get("partialFilterExpression") or ()))


def _days(since: object) -> float:
    """For how long the server has counted; 0 when it does not say."""
    if not isinstance(since, datetime):
        return 0.0
    at = since if since.tzinfo else since.replace(tzinfo=UTC)
    return (datetime.now(UTC) - at).total_seconds() / 86_400
