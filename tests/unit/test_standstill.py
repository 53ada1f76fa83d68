"""What ends a standstill of a disk, in values: who lets go, for whom, and that it comes to an end."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from worker.admission.space import Space, Volume
from worker.admission.standstill import LAST, NEVER, Waiter, filled, let_go, way_out
from worker.jobs.model import Job, Progress, Transfer, new_job
from worker.jobs.needs import expected, promised
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.jobs.states import Cause, Reason, State
from worker.limits import FREE_BYTES_MIN

MIB = 1024 * 1024
ROOM = 1000 * MIB


def unsized(name: str, asked: float, held: int) -> Waiter:
    """Of unknown size: it takes more than it has."""
    return Waiter(name, asked, held + FREE_BYTES_MIN, held, sized=False)


def outcome(*waiters: Waiter, room: int = 0) -> tuple[str, str, bool] | None:
    """Who lets go, for whom, and whether for good."""
    way = way_out(waiters, room)
    return None if way is None else (way.giver.id, way.other.id, way.final)


# ---- the rule --------------------------------------------------------------------------------------------------


def test_of_two_that_hold_half_a_disk_each_the_younger_lets_go() -> None:
    pair = unsized("old", 1, 500 * MIB), unsized("young", 2, 500 * MIB)
    assert outcome(*pair) == ("young", "old", False)
    assert outcome(*reversed(pair)) == ("young", "old", False)


def test_of_several_the_youngest_lets_go_first_and_who_holds_nothing_has_nothing_to_give() -> None:
    three = unsized("a", 1, 400 * MIB), unsized("b", 2, 400 * MIB), unsized("c", 3, 200 * MIB)
    assert outcome(*three, Waiter("d", 4, 300 * MIB)) == ("c", "a", False)


def test_nobody_lets_go_for_one_that_has_the_room_it_needs() -> None:
    pair = unsized("old", 1, 500 * MIB), unsized("young", 2, 500 * MIB)
    assert outcome(*pair, room=FREE_BYTES_MIN) is None, "it waits for something else"
    assert outcome(*pair, Waiter("held back", 0, 5 * MIB), room=5 * MIB) == ("young", "old", False)


def test_what_failed_ones_left_behind_goes_first() -> None:
    pair = unsized("old", 1, 400 * MIB), unsized("young", 2, 400 * MIB)
    assert outcome(*pair, Waiter("failed", LAST, NEVER, 200 * MIB)) == ("failed", "old", False)
    assert outcome(Waiter("new", 9, 5 * MIB), Waiter("failed", LAST, NEVER, 200 * MIB)) == ("failed", "new", False)
    assert outcome(Waiter("huge", 9, ROOM), Waiter("failed", LAST, NEVER, 200 * MIB)) is None, "it would help nobody"


def test_one_that_would_not_fit_even_then_is_passed_over_and_its_own_bytes_stay() -> None:
    waiters = Waiter("huge", 1, 5 * ROOM, 10 * MIB), unsized("a", 2, 400 * MIB), unsized("b", 3, 400 * MIB)
    assert outcome(*waiters) == ("b", "a", False)


def test_one_that_has_begun_goes_before_an_older_one_that_has_not() -> None:
    waiters = Waiter("older", 1, 600 * MIB), unsized("a", 2, 500 * MIB), unsized("b", 3, 500 * MIB)
    assert outcome(*waiters) == ("b", "a", False)


def test_what_an_older_one_can_be_helped_by_is_given_up_by_the_one_that_holds_it() -> None:
    assert outcome(Waiter("older", 1, 600 * MIB), unsized("runaway", 2, ROOM)) == ("runaway", "older", False)


def test_an_older_one_that_cannot_be_helped_gives_way_to_a_younger_one() -> None:
    runaway, small = unsized("runaway", 1, ROOM), Waiter("small", 2, 5 * MIB)
    assert outcome(runaway, small) == ("runaway", "small", True), "of unknown size: it had all the room there is"
    large = Waiter("large", 1, 2 * ROOM, ROOM)
    assert outcome(large, small) == ("large", "small", False), "its size is known: it waits for what it needs"


def test_alone_it_keeps_what_it_has() -> None:
    assert outcome(unsized("runaway", 1, ROOM)) is None
    assert outcome(unsized("runaway", 1, ROOM), Waiter("huge", 2, 2 * ROOM)) is None, "it would help nobody"


@given(st.data())
def test_whoever_lets_go_does_so_for_one_that_fits_in_the_end_and_the_older_never_for_a_younger_one_that_can_be_helped(
    data: st.DataObject,
) -> None:
    draw, room = data.draw, data.draw(st.integers(-50, 50))
    waiters = []
    for number in range(draw(st.integers(0, 6))):
        held, more = draw(st.integers(0, 100)), draw(st.integers(1, 200))
        waiters.append(Waiter(str(number), draw(st.integers(0, 3)), held + more, held, draw(st.booleans())))
    way = way_out(waiters, room)
    if way is None:
        return
    most = room + sum(waiter.held for waiter in waiters)
    assert way.giver.held > 0
    assert way.other.takes <= most, "it would fit with the others away"
    assert way.other.takes - way.other.held > room, "and does not fit now"
    if way.giver.order < way.other.order:
        assert way.giver.takes > most, "nobody but outsiders could have helped it"
    assert way_out(list(reversed(waiters)), room) == way, "whatever the order they are met in"


# ---- what becomes of the record --------------------------------------------------------------------------------


def waiting(number: int = 0, size: int | None = None, **changes: object) -> Job:
    job = new_job(parse({"uri": f"http://host/{number}", "user": "u"}), float(number))
    given: dict[str, object] = {"id": f"{number:04}", "reason": Reason.SPACE, "probe": None if size is None else Probe(size)}
    return replace(job, **{**given, **changes})  # type: ignore[arg-type]


def test_a_job_that_lets_go_keeps_its_place_and_knows_what_was_not_enough() -> None:
    job = waiting(transfer=Transfer("t", "a", 1, "/w", 0.0), claim=7, short_since=3.0)
    new = let_go(job, 64 * MIB, 5.0, 9.0)
    assert (new.state, new.reason, new.transfer, new.handed, new.created_at) == (State.QUEUED, Reason.SPACE, None, 1, job.created_at)
    assert (new.least, new.claim, new.short_since) == (64 * MIB, 0, 9.0)
    assert "lets go of the 64.0 MiB fetched of it" in new.events[-1].text


def test_a_job_that_filled_all_of_a_disk_has_failed_and_keeps_nothing() -> None:
    new = filled(waiting(transfer=Transfer("t", "a", 1, "/w", 0.0)), 8, "it filled the disk", 5.0)
    assert (new.state, new.cause, new.transfer, new.handed) == (State.FAILED, Cause.DISK, None, 1)
    assert new.least == 8, "or another try would fill it again"
    assert new.events[-1].data == {"cause": "disk", "reason": "it filled the disk"}


# ---- what an unknown size means for the space ------------------------------------------------------------------


def seen(job: Job, held: int) -> Job:
    """The job with so many bytes on a volume that this process does not see."""
    return replace(job, transfer=Transfer(job.id, "a", 1, "/w", 0.0), progress=Progress(held, allocated=held))


def unseen(free: int, size: int = ROOM) -> Space:
    return Space({"a": Volume(size, free)}, {"a": "a"}, 0)


def test_one_that_let_go_comes_back_only_to_more_room_than_it_had() -> None:
    job = waiting(least=300 * MIB)
    assert unseen(300 * MIB).shortage(job, "a")
    assert unseen(300 * MIB + FREE_BYTES_MIN).shortage(job, "a") is None


def test_one_that_holds_bytes_needs_a_little_more_room_than_none_to_go_on() -> None:
    job = seen(waiting(), 300 * MIB)
    short = unseen(FREE_BYTES_MIN - 1).shortage(job, "a")
    assert short
    assert short.text.startswith("300.0 MiB are not all of it, ")
    assert unseen(FREE_BYTES_MIN).shortage(job, "a") is None


def test_one_that_fills_all_of_the_disk_will_never_fit() -> None:
    short = unseen(0).shortage(seen(waiting(), ROOM), "a")
    assert short
    assert (short.never, short.text) == (True, "1000.0 MiB are not all of it, and the disk has room for 1000.0 MiB at most")


def test_of_those_of_unknown_size_that_found_it_full_the_first_asked_goes_first_and_claims_as_much_again() -> None:
    old, young = seen(waiting(1), 100 * MIB), seen(waiting(2), 100 * MIB)
    space = unseen(300 * MIB)
    for job in (old, young):
        space.prefer(job, ["a"])
    behind = space.shortage(young, "a")
    assert behind
    assert "which was asked for earlier, goes first" in behind.text
    assert space.shortage(old, "a") is None
    assert space.claim(old, "a") == 200 * MIB
    space.take(old, "a")
    assert space.available("a") == 200 * MIB
    assert space.shortage(young, "a") is None, "there is enough for both"
    assert space.shortage(waiting(3, 250 * MIB), "a"), "and what is claimed is nobody else's"


def test_one_that_is_tried_again_is_not_in_the_way_of_its_own_claim() -> None:
    job = replace(seen(waiting(), 100 * MIB), reason=Reason.SCHEDULE, least=100 * MIB, claim=200 * MIB)
    assert promised(job) == 200 * MIB
    space = Space({"a": Volume(ROOM, 100 * MIB, owed=200 * MIB)}, {"a": "a"}, 0)
    assert space.shortage(job, "a") is None


# ---- that it ends ----------------------------------------------------------------------------------------------


@dataclass
class Model:
    """A volume on which jobs run side by side, bytes coming to any of them at any time, with the space and the rule of the product.

    Attributes:
        sizes: what the jobs turn out to take.
        foreign: bytes of others that stay.
    """

    random: Random
    sizes: dict[str, int]
    foreign: int
    jobs: dict[str, Job]
    running: set[str] = field(default_factory=set)
    ways: list[tuple[str, str]] = field(default_factory=list)

    @property
    def free(self) -> int:
        return ROOM - self.foreign - sum(job.progress.allocated for job in self.jobs.values() if not job.terminal)

    def space(self) -> Space:
        owed = sum(max(0, (expected(self.jobs[id]) or promised(self.jobs[id]) or 0) - self.held(id)) for id in self.running)
        return Space({"a": Volume(ROOM, self.free, owed)}, {"a": "a"}, 0)

    def held(self, id: str) -> int:
        return self.jobs[id].progress.allocated

    def waiting(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state is State.QUEUED]

    def admit(self) -> None:
        space = self.space()
        for job in sorted(self.waiting(), key=lambda job: job.created_at):
            space.prefer(job, ["a"])
        for job in self.random.sample(self.waiting(), len(self.waiting())):
            short = space.shortage(job, "a")
            if short is None:
                least, claim = max(job.least, space.least(job, "a")), space.claim(job, "a")
                space.take(job, "a")
                transfer = job.transfer or Transfer(job.id, "a", 1, "/w", 0.0)
                moved = job.moved(State.SUBMITTING, 0.0, None, reason=None, transfer=transfer, least=least, claim=claim)
                self.jobs[job.id] = moved.moved(State.DOWNLOADING, 0.0, None)
                self.running.add(job.id)
            elif short.never:
                self.jobs[job.id] = replace(filled(job, 0, short.text, 0.0), progress=Progress())

    def run(self) -> None:
        """Bytes come until one ends, or finds the disk full."""
        while self.running:
            id = self.random.choice(sorted(self.running))
            more = min(self.random.randrange(1, 200 * MIB), self.sizes[id] - self.held(id), self.free)
            job = self.jobs[id]
            job = self.jobs[id] = replace(job, progress=replace(job.progress, allocated=self.held(id) + more))
            if self.held(id) == self.sizes[id]:
                job = job.moved(State.FINISHING, 0.0, None).moved(State.DONE, 0.0, None)  # and taken away
            elif self.free == 0:
                job = job.moved(State.QUEUED, 0.0, None, reason=Reason.SPACE)
            else:
                continue
            self.jobs[id] = job
            self.running.discard(id)
            return

    def stand(self) -> bool:
        """Whether somebody let go."""
        space, waiting = self.space(), self.waiting()
        waiters = [Waiter(j.id, j.created_at, space.takes(j, "a"), self.held(j.id), expected(j) is not None) for j in waiting]
        way = way_out(waiters, self.free)
        if way is None:
            return False
        giver = self.jobs[way.giver.id]
        new = filled(giver, 0, "", 0.0) if way.final else let_go(giver, way.giver.held, 0.0, 0.0)
        self.jobs[giver.id] = replace(new, progress=Progress(0, giver.progress.total))
        self.ways.append((giver.id, way.other.id))
        return True


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(0, 600))
def test_every_job_that_fits_alone_is_done_whatever_runs_beside_it_and_nobody_takes_turns(seed: int, jobs: int, foreign: int) -> None:
    random = Random(seed)
    sizes = {f"{n:04}": random.randrange(1, 1300) * MIB for n in range(jobs)}
    asked = {id: waiting(n, random.choice((None, None, sizes[id])), reason=Reason.TURN) for n, id in enumerate(sizes)}
    for id, job in asked.items():
        if expected(job) is None and random.random() < 0.2:
            asked[id] = replace(job, progress=Progress(total=sizes[id]))  # its engine knows it, and fills it as it comes
    model = Model(random, sizes, foreign * MIB, asked)
    bound = jobs * jobs
    while True:
        before = dict(model.jobs)
        model.admit()
        if model.running:
            model.run()
        elif model.jobs == before and not model.stand():
            break
        assert len(model.ways) <= bound, f"they take turns: {model.ways[-20:]}"
    room = ROOM - foreign * MIB
    for id, job in model.jobs.items():
        if sizes[id] <= room - FREE_BYTES_MIN:
            assert job.state is State.DONE, f"{id} of {sizes[id] // MIB} of {room // MIB}: {[event.text for event in job.events]}"
        elif sizes[id] <= room:
            assert job.state in (State.DONE, State.FAILED, State.QUEUED)
        else:
            assert job.state in (State.FAILED, State.QUEUED), id
    assert all(model.space().takes(job, "a") > room for job in model.waiting()), "who waits waits for what is not ours"
