"""What one store has of another: everything, of whichever kind the two are; nothing is written."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from worker.jobs.document import to_document
from worker.jobs.errors import Failed
from worker.jobs.model import Job
from worker.jobs.states import Cause, State
from worker.ports import Drain, JobFilter, JobStore, Run

#: Jobs read and written at once: with full timelines some 10 MB.
BATCH = 200
#: The newest runs of a ledger; nobody asks for older ones.
RUNS_MAX = 1_000_000
NAMED_MAX = 5

#: Called between batches with what is being done, how much of it, and of how much; what it raises ends the work.
Turn = Callable[[str, int, int], None]


class NotCopied(Failed):
    """The target has, or would get, something else than the source."""

    def __init__(self, message: str) -> None:
        super().__init__(Cause.INCOMPLETE, message)


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a target lacks of a source, and where it differs.

    Attributes:
        states: jobs of the source in each state.
        equal: jobs that both have in the same form.
        missing: ids of jobs the target does not have, in the order they were recorded in.
        torrents: `.torrent` files of the source's jobs; `missing_torrents` names those the target does not have, and
            `lost_torrents` counts those that neither has.
        runs: of the source; `missing_runs` are those the target does not have, oldest first.
        missing_limits: set at run time in the source, and not in the target; `missing_drains` are engines that are drained in it.
        differing: what both have, and not in the same form: `job <id>`, `run <name> <slot>`, `limit <name>`, `drain <engine>`.
        foreign: jobs, runs, limits and drains that only the target has.
        engines: names of the engines the source's jobs are at.
        source_digest, target_digest: SHA-256 of the hashes of all that the source has, as it is in each of the two.
    """

    states: Mapping[State, int]
    equal: int
    missing: Sequence[str]
    torrents: int
    missing_torrents: Sequence[str]
    lost_torrents: int
    runs: int
    missing_runs: Sequence[Run]
    missing_limits: Mapping[str, Any]
    missing_drains: Mapping[str, Drain]
    differing: Sequence[str]
    foreign: int
    engines: frozenset[str]
    source_digest: str
    target_digest: str

    @property
    def jobs(self) -> int:
        """How many jobs the source has."""
        return sum(self.states.values())

    def check_extendable(self) -> None:
        """Raise NotCopied unless the target is a part of the source, or empty; the message names what is in the way."""
        if self.differing:
            raise NotCopied(f"the target has these in another form, and nothing is overwritten: {named(self.differing)}")
        if self.foreign:
            raise NotCopied(f"the target has {self.foreign} jobs, runs or limits that the source does not have: choose an empty store")

    def check_equal(self) -> None:
        """Raise NotCopied unless the target has all of the source and nothing else."""
        self.check_extendable()
        lacks = [f"job {id}" for id in self.missing] + [f"run {run.name} {run.slot}" for run in self.missing_runs]
        lacks += [f"torrent {name}" for name in self.missing_torrents] + [f"limit {name}" for name in self.missing_limits]
        lacks += [f"drain {engine}" for engine in self.missing_drains]
        if lacks:
            raise NotCopied(f"the target does not have {named(lacks)}: somebody uses one of the stores")
        if self.source_digest != self.target_digest:
            raise NotCopied(f"the hashes differ: {self.source_digest} and {self.target_digest}")


class Survey:
    """Goes through the source newest first, and looks up the same in the target."""

    def __init__(self, source: JobStore, target: JobStore | None, turn: Turn) -> None:
        self._source, self._target, self._turn = source, target, turn
        self._mine, self._theirs = hashlib.sha256(), hashlib.sha256()
        self._states: Counter[State] = Counter()
        self._equal = self._foreign = self._runs = self._lost = 0
        self._missing: list[str] = []
        self._missing_runs: list[Run] = []
        self._missing_limits: dict[str, Any] = {}
        self._missing_drains: dict[str, Drain] = {}
        self._missing_torrents: list[str] = []
        self._names: set[str] = set()
        self._engines: set[str] = set()
        self._differing: list[str] = []

    def whole(self) -> Comparison:
        """Read both and compare everything."""
        self._jobs()
        self._torrents()
        self._ledger()
        self._limits()
        self._drains()
        return self._result()

    def _jobs(self) -> None:
        total, seen = sum(self._source.counts().values()), 0
        self._turn("comparing", seen, total)
        for jobs in _pages(self._source):
            there = self._target.get(job.id for job in jobs) if self._target else {}
            for job in jobs:
                self._job(job, there.get(job.id))
            seen += len(jobs)
            self._turn("comparing", seen, max(seen, total))
        known = sum(self._target.counts().values()) if self._target else 0
        self._foreign += known - self._equal - len(self._differing)

    def _job(self, job: Job, other: Job | None) -> None:
        self._states[job.state] += 1
        if job.description:
            self._names.add(job.description.document)
        if job.transfer and (job.seeding or not job.terminal):
            self._engines.add(job.transfer.engine)
        if other is None:
            self._mine.update(fingerprint(to_document(job)))
            self._missing.append(job.id)
        elif self._same(to_document(job), to_document(other), f"job {job.id}"):
            self._equal += 1

    def _torrents(self) -> None:
        for place, name in enumerate(sorted(self._names), 1):
            self._turn("comparing torrents", place, len(self._names))
            if self._has(self._target, name):
                self._mine.update(name.encode())
                self._theirs.update(name.encode())
            elif self._has(self._source, name):
                self._mine.update(name.encode())
                self._missing_torrents.append(name)
            else:
                self._lost += 1

    def _ledger(self) -> None:
        mine = self._source.runs(None, RUNS_MAX)
        theirs = {(run.name, run.slot): run for run in self._target.runs(None, RUNS_MAX)} if self._target else {}
        self._runs = len(mine)
        for run in mine:
            other = theirs.pop((run.name, run.slot), None)
            if other is None:
                self._mine.update(fingerprint(asdict(run)))
                self._missing_runs.append(run)
            else:
                self._same(asdict(run), asdict(other), f"run {run.name} {run.slot}")
        self._foreign += len(theirs)

    def _limits(self) -> None:
        theirs = self._target.limits() if self._target else {}
        for name, value in sorted(self._source.limits().items()):
            if name not in theirs:
                self._mine.update(fingerprint({name: value}))
                self._missing_limits[name] = value
            else:
                self._same({name: value}, {name: theirs.pop(name)}, f"limit {name}")
        self._foreign += len(theirs)

    def _drains(self) -> None:
        theirs = self._target.drains() if self._target else {}
        for engine, drain in sorted(self._source.drains().items()):
            if engine not in theirs:
                self._mine.update(fingerprint({engine: asdict(drain)}))
                self._missing_drains[engine] = drain
            else:
                self._same(asdict(drain), asdict(theirs.pop(engine)), f"drain {engine}")
        self._foreign += len(theirs)

    def _result(self) -> Comparison:
        return Comparison(
            states={state: self._states[state] for state in State if self._states[state]},
            equal=self._equal,
            missing=self._missing[::-1],
            torrents=len(self._names) - self._lost,
            missing_torrents=self._missing_torrents,
            lost_torrents=self._lost,
            runs=self._runs,
            missing_runs=self._missing_runs[::-1],
            missing_limits=self._missing_limits,
            missing_drains=self._missing_drains,
            differing=self._differing,
            foreign=self._foreign,
            engines=frozenset(self._engines),
            source_digest=self._mine.hexdigest(),
            target_digest=self._theirs.hexdigest(),
        )

    def _same(self, mine: Mapping[str, Any], theirs: Mapping[str, Any], what: str) -> bool:
        one, other = fingerprint(mine), fingerprint(theirs)
        self._mine.update(one)
        self._theirs.update(other)
        if one != other:
            self._differing.append(what)
        return one == other

    @staticmethod
    def _has(store: JobStore | None, name: str) -> bool:
        document = store.torrents([name]).get(name) if store else None
        return document is not None and hashlib.sha256(document).hexdigest() == name


def _pages(store: JobStore) -> Iterator[tuple[Job, ...]]:
    page = store.page(JobFilter(), BATCH)
    yield page.jobs
    while page.cursor:
        page = store.page(JobFilter(), BATCH, page.cursor)
        yield page.jobs


def fingerprint(value: Mapping[str, Any]) -> bytes:
    """SHA-256 of a document's canonical JSON: sorted names, no blanks."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).digest()


def alike(one: Job, other: Job) -> bool:
    """Whether two records are the same, byte for byte."""
    return fingerprint(to_document(one)) == fingerprint(to_document(other))


def named(things: Sequence[str]) -> str:
    """The first of them, and how many there are beside."""
    rest = len(things) - NAMED_MAX
    return ", ".join(things[:NAMED_MAX]) + (f" and {rest} more" if rest > 0 else "")
