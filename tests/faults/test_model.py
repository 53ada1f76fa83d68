"""Any order of anything: a model check.

Hypothesis drives two processes over one store, one Redis and two engines through steps, crashes, lost answers, stalls and delays, in
any order, and asks after each what must always hold; then it lets everything run and asks whether it came to its end.
What it finds are mistakes in the order of effects: something told before it is recorded, deleted before it is needed no more,
written by who has lost the right to, remembered where it dies, or found by nobody when a message is lost.
`HAUL_MODEL_EXAMPLES` makes it look longer, each time elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import worker
from tests.faults.catalogue import fault
from tests.faults.model import SLOTS, World
from tests.faults.mortal import DELETION, ENGINE, FILES, REDIS, STORE, STREAM, Kind, Trouble
from tests.faults.process import Move
from tests.faults.verdict import all_over, as_wished
from worker.engines.fake import content_of
from worker.jobs.model import Request, Source, SourceKind, job_id
from worker.jobs.states import Action, Cause
from worker.ports import Fault, ItemStatus

EXAMPLES = int(os.environ.get("HAUL_MODEL_EXAMPLES", "0"))
#: Turns until pauses and cancellations are through, until everything has ended, and until it is tidied up.
SETTLE_TURNS, END_TURNS, TIDY_TURNS = 9, 90, 11
HOUR_S = 3_600
#: Every failpoint on the way of a job, but for what the model has not: migrations, webhooks, `.torrent` files and probes.
SOURCES = [path.read_text() for path in Path(worker.__file__).parent.rglob("*.py")]
POINTS = sorted({name for text in SOURCES for name in re.findall(r'failpoints\.hit\("([^"]+)"', text)})
POINTS = [name for name in POINTS if name.partition(".")[0] not in ("migrate", "webhook", "describe", "probe", "sweep")]

FAULTS = [
    Fault(Cause.NOT_FOUND, False, "there is no such file"),
    Fault(Cause.INTERRUPTED, True, "the connection broke"),
    Fault(Cause.UNREACHABLE, True, "nobody answers"),
    Fault(Cause.DISK, True, "the disk is full"),
]
UNFINISHED = (ItemStatus.RUNNING, ItemStatus.PAUSED, ItemStatus.WAITING)

numbers = st.integers(0, 1)
chosen = st.integers(0, 9)
engines = st.sampled_from(sorted(SLOTS))
moves = st.sampled_from([move for move in Move if move not in (Move.COMPLETE, Move.CANCEL, Move.RETRY)])
meanwhile = st.lists(st.sampled_from([Move.ROUND, *Move]), min_size=1, max_size=5).map(tuple)
delays = st.sampled_from([1.0, 12.0, 35.0])
few = st.integers(1, 6)
deaths = st.sampled_from([Kind.CRASH_BEFORE, Kind.CRASH_AFTER, Kind.STALL])
any_kind = deaths | st.sampled_from([Kind.LOST, Kind.UNHEARD])
troubles = st.one_of(
    st.builds(Trouble, any_kind, st.integers(1, 12) | st.integers(1, 60), delays, meanwhile),
    st.builds(Trouble, any_kind, few, delays, meanwhile, st.sampled_from([ENGINE, STORE, REDIS, STREAM, FILES])),
    st.builds(Trouble, deaths, st.integers(1, 2), delays, meanwhile, st.sampled_from([DELETION, DELETION, *POINTS])),
    st.builds(Trouble, st.sampled_from([Kind.LATE, Kind.HALF]), st.integers(1, 2), delays),
)
wants = st.fixed_dictionaries(
    {
        "user": st.sampled_from(["ann", "bob"]),
        "key": st.sampled_from([None, "k1", "k2"]),
        "source": st.sampled_from(["one", "another"]),
        "magnet": st.booleans(),
        "priority": st.integers(0, 2),
        "how": st.sampled_from(["plain", "plain", "seeds", "checked", "wrong", "pinned", "same", "same", "same"]),
    }
)


class Anything(RuleBasedStateMachine):
    """One run of a small world."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    # ---- users ----

    @initialize(asked=st.lists(wants, min_size=1, max_size=4))
    def begin(self, asked: list[dict[str, Any]]) -> None:
        for want in asked:
            self.ask(0, want)
        for number in (0, 1):
            self.step(number, Move.ROUND)

    @rule(number=numbers, want=wants)
    def ask(self, number: int, want: dict[str, Any]) -> None:
        spec = self._spec(**want)
        kind = SourceKind.MAGNET if want["magnet"] else SourceKind.HTTP
        self.world.ask(number, Request(Source(kind, spec.pop("uri")), **spec))

    @rule(number=numbers, want=wants)
    def enqueue(self, number: int, want: dict[str, Any]) -> None:
        spec = self._spec(**want)
        self.world.offer(number, {"kind": "request", "id": job_id(spec["user"], spec["key"]), "spec": spec})

    @rule(number=numbers, which=chosen, action=st.sampled_from(Action), late=st.booleans())
    def wish(self, number: int, which: int, action: Action, late: bool) -> None:
        id = _chosen(self.world.witness.jobs, which)
        if id and late:
            self.world.offer(number, {"kind": "control", "job": id, "action": str(action)})
        elif id:
            self.world.wish(number, id, action)

    def _spec(self, *, user: str, key: str | None, source: str, magnet: bool, priority: int, how: str) -> dict[str, Any]:
        """A request as a message has it. The same key may come with another source; the source is the user's own, or everybody's."""
        uri = f"http://127.0.0.1/{user}/{key or self.world.draw(8)}/{source}"
        if how == "same":
            uri = f"http://127.0.0.1/everybody/{source}"
        if magnet:
            uri = "magnet:?xt=urn:btih:" + hashlib.sha1(uri.encode()).hexdigest()
        right = hashlib.sha256(content_of(Source(SourceKind.HTTP, uri))).hexdigest()
        options: dict[str, dict[str, Any]] = {
            "seeds": {"seed_ratio": 2.0},
            "checked": {"sha256": right},
            "same": {} if magnet else {"sha256": right},
            "wrong": {"sha256": right[::-1]},
            "pinned": {"engine": "b"},
        }
        return {"uri": uri, "user": user, "key": key, "priority": priority, **options.get(how, {})}

    # ---- processes ----

    @rule(number=numbers, move=moves, troubles=st.lists(troubles, max_size=1))
    def step(self, number: int, move: Move, troubles: Sequence[Trouble] = ()) -> None:
        if troubles:
            self.world.processes[number].expect(troubles)
        self.world.happen(number, move)

    @rule(
        numbers=st.lists(numbers, min_size=2, max_size=5),
        seconds=delays,
        troubles=st.lists(troubles, min_size=1, max_size=3),
        whole=st.booleans(),
    )
    def rounds(self, numbers: list[int], seconds: float, troubles: list[Trouble], whole: bool) -> None:
        """Most of the time most things work; what goes wrong befalls both, each on its way."""
        if whole:
            self.world.mend()
            self.world.complete()
        for process in self.world.processes:
            process.expect(troubles)
        for number in numbers:
            self.world.pass_time(seconds)
            self.world.happen(number, Move.ROUND)

    @rule(turns=st.integers(1, 2))
    def nothing_goes_wrong(self, turns: int) -> None:
        self.world.calm(turns, completing=False)

    # ---- engines ----

    @rule(engine=engines, which=chosen, how=st.sampled_from(["part", "whole", "whole", "pause", "remove", *FAULTS]))
    def item(self, engine: str, which: int, how: str | Fault) -> None:
        """A download goes on, or ends, or somebody lays hands on it."""
        at = self.world.engines[engine]
        handle = _chosen([handle for handle, item in at.shows().items() if item.status in UNFINISHED or how == "remove"], which)
        if handle is None:
            return
        if isinstance(how, Fault):
            at.fail(handle, how)
        elif how == "part":
            at.advance(300, handle)
        elif how == "whole":
            at.complete(handle)
        else:
            at.meddle(handle, how)

    @rule(engine=engines, which=chosen, how=st.sampled_from(["restart", "forget", "hang", "answer", "add", "orphan", "seeded"]))
    def engine_does(self, engine: str, which: int, how: str) -> None:
        at = self.world.engines[engine]
        if how in ("restart", "forget"):
            at.restart(keep=how == "restart")
        elif how in ("hang", "answer"):
            at.hang(how == "hang")
        elif how in ("add", "orphan"):
            at.add_strange(which, ours=how == "orphan")
        else:
            self.world.end_seeding()

    # ---- what lies between ----

    @rule(number=numbers, how=st.sampled_from(["nudge lost", "nudge doubled", "empty", "away", "back", "stop in order"]))
    def between(self, number: int, how: str) -> None:
        if how.startswith("nudge"):
            if self.world.broker:
                self.world.broker.extend([self.world.broker.popleft()] * (2 if how == "nudge doubled" else 0))
        elif how == "empty":
            self.world.flush()
        elif how in ("away", "back"):
            self.world.cut_off(how == "away")
        else:
            self.world.replace(number)

    @rule(seconds=st.sampled_from([1.0, 11.0, 31.0, 61.0]), jump=st.sampled_from([0, 0, -HOUR_S, HOUR_S]))
    def time(self, seconds: float, jump: float) -> None:
        self.world.jump(jump)
        self.world.pass_time(seconds)

    # ---- what must hold ----

    @invariant()
    def nothing_wrong_was_seen(self) -> None:
        assert not self.world.witness.wrong, "\n".join(self.world.witness.wrong)

    def teardown(self) -> None:
        try:
            if not self.world.witness.wrong:
                self._comes_to_its_end()
        finally:
            self.world.close()

    def _comes_to_its_end(self) -> None:
        world = self.world
        world.calm(SETTLE_TURNS, completing=False)
        self.nothing_wrong_was_seen()
        as_wished(world)
        world.run_out(END_TURNS)
        world.calm(TIDY_TURNS, completing=True)
        all_over(world)
        self.nothing_wrong_was_seen()


def _chosen(ids: Any, which: int) -> str | None:
    known = sorted(ids)
    return known[which % len(known)] if known else None


TestAnythingInAnyOrder = fault(
    "anything, in any order: crashes between any two effects, lost and late answers, stalls, lost nudges, Redis emptied, clocks set",
    provoked="a state machine of Hypothesis drives store, engines and Redis in memory, and draws what goes wrong at which effect",
    holds="records move by the table and one version at a time, no stale holder writes, slots hold, events come in order; and in the end "
    "every job has ended as its user wished, its file is in place once, nothing is left at the engines and nothing untold",
)(Anything.TestCase)
TestAnythingInAnyOrder.pytestmark = pytest.mark.timeout(300)
TestAnythingInAnyOrder.settings = settings(
    max_examples=EXAMPLES or 100,
    stateful_step_count=60,
    deadline=None,
    derandomize=not EXAMPLES,
    phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],  # to shrink takes minutes
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
