"""The shape of an operation: what is asked, by which fields, in which order; never a value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum


class Verb(StrEnum):
    """What an operation does."""

    FIND = "find"
    AGGREGATE = "aggregate"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    COMMIT = "commit"


#: These read, and are to be quick; the others change many documents at once.
READS = frozenset({Verb.FIND, Verb.AGGREGATE})


@dataclass(frozen=True, slots=True)
class Operation:
    """One shape.

    Attributes:
        store: `mongodb` or `sqlite`.
        target: the collection or table.
        text: the shape as people read it.
        equal: fields that are compared with one value or a few.
        order: fields it sorts by, with 1 or -1; ranges: fields with a range.
        by_id: it names the ids it wants.
        limited: it says how many it takes, or brings one row for many.
        bounded: it says why it needs no limit; see `worker.store.bounded`.
        selects: it has a condition at all.
    """

    store: str
    target: str
    verb: Verb
    text: str
    equal: tuple[str, ...] = ()
    order: tuple[tuple[str, int], ...] = ()
    ranges: tuple[str, ...] = ()
    by_id: bool = False
    limited: bool = False
    bounded: bool = False
    selects: bool = True

    @property
    def reads(self) -> bool:
        """It changes nothing."""
        return self.verb in READS

    @property
    def unbounded(self) -> bool:
        """It brings all there is."""
        return self.verb is Verb.FIND and not (self.by_id or self.limited)


@dataclass(frozen=True, slots=True)
class Index:
    """An index, as far as it decides what it serves.

    Attributes:
        condition: fields that the condition of a partial one names.
    """

    keys: tuple[tuple[str, int], ...]
    name: str = ""
    condition: frozenset[str] = frozenset()

    def text(self, operation: Operation) -> str:
        """How to make it."""
        if operation.store == "sqlite":
            columns = ", ".join(f"{key}{'' if way > 0 else ' DESC'}" for key, way in self.keys)
            return f"CREATE INDEX {self.named(operation)} ON {operation.target} ({columns})"
        keys = ", ".join(f'"{key}": {way}' for key, way in self.keys)
        return f'db.{operation.target}.createIndex({{{keys}}}, {{"name": "{self.named(operation)}"}})'

    def named(self, operation: Operation) -> str:
        """Its name, or the one it is to have."""
        return self.name or "_".join([operation.target, "by", *(key.replace(".", "_") for key, _ in self.keys)])


def proposed(operation: Operation) -> Index | None:
    """The index that would select and sort: equality, then order, then range; None when there is nothing to go by.

    In this order the documents that are equal stand together and sorted, and the range only cuts them
    (https://www.mongodb.com/docs/manual/tutorial/equality-sort-range-guideline/).
    """
    keys = dict.fromkeys(operation.equal, 1)
    keys |= {name: way for name, way in operation.order if name not in keys}
    keys |= {name: 1 for name in operation.ranges if name not in keys}
    return Index(tuple(keys.items())) if keys else None


def serving(operation: Operation, indexes: Sequence[Index]) -> Index | None:
    """An index that is there and does what the proposed one would."""
    for index in indexes:
        names = [name for name, _ in index.keys]
        equal = {name for name in operation.equal if name in names or name not in index.condition}
        lead, rest = set(names[: len(equal)]), index.keys[len(equal) :]
        if lead == equal and _ordered(operation.order, rest) and set(operation.ranges) <= {*names, *index.condition}:
            return index
    return None


def selecting(operation: Operation, indexes: Sequence[Index]) -> Index | None:
    """An index that is there and finds what is asked for without reading all, if not in the best way."""
    fields = {*operation.equal, *operation.ranges}
    return next((index for index in indexes if index.keys and index.keys[0][0] in fields and index.condition <= fields), None)


def _ordered(order: tuple[tuple[str, int], ...], keys: tuple[tuple[str, int], ...]) -> bool:
    """The keys begin with the order, or with its reverse."""
    begin = keys[: len(order)]
    return begin in (order, tuple((name, -way) for name, way in order))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a server says it does.

    Attributes:
        scans: it reads every document; sorts: it sorts what it has read.
        indexes: by their names, those it goes by.
        there: the indexes of the collection, where the server tells them.
    """

    scans: bool = False
    sorts: bool = False
    indexes: tuple[str, ...] = ()
    there: tuple[Index, ...] = field(default=())


def mongo_plan(explained: Mapping[str, object]) -> Plan:
    """What `explain` with the verbosity `queryPlanner` says of the plan that won, in the form of MongoDB 5 to 8.

    A sort of an aggregation that works on what was grouped is not of the plan: no index would do it.
    """
    stages: list[Mapping[str, object]] = []
    for plan in _winning(explained):
        _walk(plan, stages)
    names = [str(stage.get("stage")) for stage in stages]
    return Plan(
        scans="COLLSCAN" in names,
        sorts="SORT" in names,
        indexes=tuple(str(stage["indexName"]) for stage in stages if "indexName" in stage),
    )


def _winning(value: object) -> list[object]:
    """All winning plans: of a shard each, and of the part of an aggregation that reads."""
    if isinstance(value, Mapping):
        if "winningPlan" in value:
            return [value["winningPlan"]]
        return [plan for key, each in value.items() if key != "command" for plan in _winning(each)]
    return [plan for each in value for plan in _winning(each)] if isinstance(value, list) else []


def _walk(value: object, stages: list[Mapping[str, object]]) -> None:
    if isinstance(value, Mapping):
        if isinstance(value.get("stage"), str):
            stages.append(value)
        for key, each in value.items():
            if key in (
                "inputStage",
                "inputStages",
                "queryPlan",
                "shards",
                "winningPlan",
                "outerStage",
                "innerStage",
                "thenStage",
                "elseStage",
            ):
                _walk(each, stages)
    elif isinstance(value, list):
        for each in value:
            _walk(each, stages)


def sqlite_plan(lines: Sequence[str], operation: Operation) -> Plan:
    """What `EXPLAIN QUERY PLAN` says, by its column `detail`.

    A table that is read in its own order until a limit is reached is not scanned.
    """
    sorts = any("TEMP B-TREE" in line for line in lines)
    scanned = [line for line in lines if line.startswith("SCAN ") and " USING " not in line and "VIRTUAL TABLE" not in line]
    scanned = [line for line in scanned if line.split()[1] not in ("CONSTANT", "json_each", "(subquery")]
    stops = operation.limited and not operation.selects and not sorts
    indexes = tuple(line.partition("INDEX ")[2].split()[0] for line in lines if " INDEX " in line and "VIRTUAL" not in line)
    return Plan(scans=bool(scanned) and not stops, sorts=sorts, indexes=indexes)
