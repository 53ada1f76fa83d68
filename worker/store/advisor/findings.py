"""What the tallies show that should be otherwise, and what to do about it; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from worker.store.advisor.operation import Verb, proposed, selecting, serving
from worker.store.advisor.tally import SLOW_BATCH_S, SLOW_READ_S, Tally

#: So many operations of one shape in one look or request are a loop that one operation should replace.
REPEATS = 10
#: One slow operation in more than so many is the machine's hiccup, not the shape's fault.
SLOW_ONE_IN = 20
#: A read that says it is bounded is asked after beyond this.
ROWS_MAX = 10_000
#: A read is worth a cache when so many of it were followed, and so many of those brought the same again.
FOLLOWED_MIN = 20
HIT_RATE_MIN = 0.8


class Kind(StrEnum):
    """What is wrong; a label of metrics."""

    REPEATED_SHAPE = "n+1"
    SLOW = "slow"
    SCAN = "scan"
    SORT = "sort"
    UNBOUNDED = "unbounded"
    UNUSED_INDEX = "unused-index"
    REPEATED_READ = "repeated-read"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding; it holds shapes and names, and never a value.

    Attributes:
        operation: the shape.
        doing: the step, tick or route where it is worst; "" for none.
        place: the code that asked, sampled; "" when it was not seen.
        count: operations of this shape; seconds: how long they took together.
        evidence: what was measured; advice: what to do; index: the statement that makes the index proposed, or "".
    """

    kind: Kind
    store: str
    operation: str
    doing: str
    place: str
    count: int
    seconds: float
    evidence: str
    advice: str
    index: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "kind": str(self.kind), "seconds": round(self.seconds, 3)}


def judged(tallies: Iterable[Tally]) -> list[Finding]:
    """All findings, those that cost the most time first."""
    found = [finding for tally in tallies if tally.count for finding in _of(tally)]
    return sorted(found, key=lambda finding: finding.seconds, reverse=True)


def unused(store: str, target: str, names: Sequence[str], days: float) -> list[Finding]:
    """Indexes no operation has gone by since the server counts."""
    evidence = f"no operation has gone by it in {days:.1f} days"
    advice = "it costs at every write; if no other deployment needs it, drop it"
    return [Finding(Kind.UNUSED_INDEX, store, f"{target}: index {name}", "", "", 0, 0.0, evidence, advice) for name in names]


def _of(tally: Tally) -> Iterator[Finding]:
    operation = tally.operation
    doing, times = max(tally.repeats.items(), key=lambda item: item[1], default=("", 0))
    place = max(tally.places, key=lambda name: tally.places[name], default="")
    mean_ms = 1_000 * tally.seconds / tally.count

    def finding(kind: Kind, evidence: str, advice: str, index: str = "") -> Finding:
        return Finding(kind, operation.store, operation.text, doing, place, tally.count, tally.seconds, evidence, advice, index)

    if times >= REPEATS and operation.verb is not Verb.COMMIT:
        yield finding(Kind.REPEATED_SHAPE, f"{times} times in one {doing!r}, {mean_ms:.1f} ms each", _together(tally))
    if tally.slow * SLOW_ONE_IN >= tally.count:
        limit = SLOW_READ_S if operation.reads else SLOW_BATCH_S
        evidence = f"{tally.slow} of {tally.count} took longer than {1_000 * limit:.0f} ms, the longest {1_000 * tally.longest:.0f} ms"
        yield finding(Kind.SLOW, evidence, _quicker(tally))
    yield from _planned(tally, finding)
    if operation.unbounded and (not operation.bounded or tally.rows > ROWS_MAX):
        said = ", although it says that it is bounded" if operation.bounded else ""
        yield finding(
            Kind.UNBOUNDED,
            f"no limit and no ids; it has brought up to {tally.rows} at once{said}",
            "read it in pages with a limit, or write at the query why it is bounded",
        )
    if tally.followed >= FOLLOWED_MIN and tally.same >= HIT_RATE_MIN * tally.followed:
        rate = tally.same / tally.followed
        evidence = f"of {tally.followed} followed, {tally.same} brought the answer of the same read before: a hit rate of {rate:.0%}"
        yield finding(Kind.REPEATED_READ, evidence, f"a cache would save about {rate * tally.seconds:.1f} s of {tally.seconds:.1f} s")


def _planned(tally: Tally, finding: Any) -> Iterator[Finding]:
    plan, operation = tally.plan, tally.operation
    if plan is None or operation.bounded:
        return
    index, sorting = proposed(operation), serving(operation, plan.there)
    # With nothing to go by there is nothing an index could do: that it brings all is told as unbounded.
    for kind, holds, what in (
        (Kind.SCAN, plan.scans, "every document is read"),
        (Kind.SORT, plan.sorts and not plan.scans, "it sorts what it read"),
    ):
        if not holds or index is None:
            continue
        there = sorting or (selecting(operation, plan.there) if kind is Kind.SCAN else None)
        if there is not None:
            advice = (
                f"the index {there.name} would do; find out why the server does not go by it (a filter that its condition does not cover?)"
            )
            yield finding(kind, f"explain: {what}", advice)
        else:
            yield finding(kind, f"explain: {what}", f"add an index on ({', '.join(name for name, _ in index.keys)})", index.text(operation))


def _together(tally: Tally) -> str:
    operation = tally.operation
    if not operation.reads:
        return "write them as one batch"
    by = operation.equal[0] if operation.equal else "the field they differ in"
    return f"read them in one, with a list of values for {by}"


def _quicker(tally: Tally) -> str:
    plan, operation = tally.plan, tally.operation
    if operation.verb is Verb.COMMIT:
        return "the disk is slow to confirm: fewer and larger batches, or a quicker disk"
    if plan is not None and (plan.scans or plan.sorts):
        return "see the scan or sort of the same shape"
    if operation.verb is Verb.AGGREGATE:
        return "select less before it groups, or keep the sum where the records change"
    return "take fewer at once, or fewer fields" if operation.reads else "take fewer at once"
