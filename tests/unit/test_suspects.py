"""Who is blamed for the death of an engine, who is tried apart, and who is given up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.jobs_by_hypothesis import a_job
from worker.jobs.model import Job, Transfer
from worker.jobs.states import IN_SLOT, State
from worker.limits import SUBMIT_WINDOW_S
from worker.supervision.deaths import after_death
from worker.suspects import (
    ALONE,
    APART,
    GROUP,
    TRIAL_S_MIN,
    WINDOW_S,
    Verdict,
    accompanied,
    judge,
    may_join,
    near,
    on_trial,
    outlasted,
    trial_after,
)
from worker.tries import TRIES_MAX

NOW = 10_000.0


def given_to(at: float, deaths: int = 0, trial_s: float = 0.0, id: str = "j", state: State = State.DOWNLOADING) -> Job:
    """A job that an engine was given at this time."""
    transfer = Transfer(id, "a", 1, "/x", at + SUBMIT_WINDOW_S)
    return a_job(id=id, state=state, transfer=transfer, engine_deaths=deaths, trial_s=trial_s)


@pytest.mark.parametrize(
    ("deaths", "ran_s", "company", "verdict"),
    [
        (0, 1, False, Verdict.COUNTED),
        (0, WINDOW_S, False, Verdict.UNSUSPECTED),
        (1, WINDOW_S - 1, False, Verdict.APART),
        (1, WINDOW_S, False, Verdict.UNSUSPECTED),
        (2, 9, False, Verdict.APART),
        (2, 10, False, Verdict.COUNTED),
        (3, 9, False, Verdict.GUILTY),
        (3, 10, False, Verdict.COUNTED),
        (3, 9, True, Verdict.APART),
        (6, 9, True, Verdict.APART),
        (7, 9, True, Verdict.GUILTY),
    ],
)
def test_what_follows_a_death(deaths: int, ran_s: float, company: bool, verdict: Verdict) -> None:
    assert judge(given_to(NOW - ran_s, deaths, trial_s=10.0), NOW, company=company) is verdict


@pytest.mark.parametrize("state", [state for state in State if state not in IN_SLOT])
def test_who_is_at_no_engine_is_blamed_for_nothing(state: State) -> None:
    assert judge(given_to(NOW, 1, state=state), NOW, company=False) is Verdict.UNSUSPECTED


def test_a_trial_is_long_enough_for_the_same_to_happen_again_and_never_shorter_than_one_before() -> None:
    assert trial_after(given_to(NOW), NOW) == TRIAL_S_MIN
    assert trial_after(given_to(NOW - 20), NOW) > 40
    assert trial_after(given_to(NOW, 2, trial_s=43.0), NOW) == 43.0
    assert trial_after(given_to(NOW - 50), NOW) == WINDOW_S


def test_nothing_is_held_any_more_against_who_has_run_well_for_long() -> None:
    assert outlasted(given_to(NOW - WINDOW_S, 1), NOW)
    assert not outlasted(given_to(NOW - WINDOW_S + 1, 1), NOW)
    assert not outlasted(given_to(NOW - WINDOW_S, 0), NOW), "there is nothing to forgive"


def test_those_who_died_twice_are_tried_in_groups_and_from_then_on_alone() -> None:
    twice, thrice = given_to(NOW, APART, 5.0), given_to(NOW, ALONE, 5.0)
    assert may_join(twice, [twice] * (GROUP - 1), NOW + 4)
    assert not may_join(twice, [twice] * GROUP, NOW + 4)
    assert may_join(twice, [twice] * GROUP, NOW + 5), "their trials are over"
    assert not may_join(twice, [thrice], NOW + 4)
    assert may_join(twice, [thrice], NOW + 5)
    assert not may_join(thrice, [twice], NOW + 5), "one of them may kill later than it did"
    assert may_join(thrice, [], NOW)
    assert near(twice, NOW + WINDOW_S - 1)
    assert not near(twice, NOW + WINDOW_S)
    assert not near(replace(twice, state=State.DONE), NOW)
    assert on_trial(twice, NOW + 4)
    assert not on_trial(twice, NOW + 5)
    assert not on_trial(given_to(NOW, 1, 5.0), NOW)


def test_only_who_came_lately_may_have_done_it_in_its_place() -> None:
    alone = given_to(NOW - 3, ALONE, 5.0)
    assert accompanied(alone, [alone, given_to(NOW - WINDOW_S + 1)], NOW)
    assert not accompanied(alone, [alone, given_to(NOW - WINDOW_S)], NOW)
    assert not accompanied(alone, [alone, given_to(NOW - 3, APART, 5.0)], NOW), "who is suspected itself was not beside it"
    assert not accompanied(alone, [alone, given_to(NOW - 1, state=State.PAUSED)], NOW)


# ---- an engine that dies of some of its jobs ----


@dataclass
class World:
    """One engine, restarted a second after each death; looked at once a second.

    Attributes:
        kills_after: seconds from its hand-over to the death of the engine, by job; None for one that does no harm.
    """

    kills_after: dict[str, float | None]
    takes_s: float
    slots: int
    now: float = NOW
    deaths: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.jobs = {id: a_job(id=id) for id in self.kills_after}

    def run(self, most_s: int) -> None:
        for _ in range(most_s):
            if all(job.terminal for job in self.jobs.values()):
                return
            self.admit()
            self.now += 1.0
            self.look()
        raise AssertionError(f"it never ends: {[(job.id, job.state, job.engine_deaths) for job in self.jobs.values()]}")

    def admit(self) -> None:
        for job in list(self.jobs.values()):
            running = [other for other in self.jobs.values() if other.state is State.DOWNLOADING]
            lately = [other for other in running if near(other, self.now)]
            fits = job.engine_deaths < APART or may_join(job, lately, self.now)
            if job.state is State.QUEUED and len(running) < self.slots and fits:
                transfer = Transfer(job.id, "a", job.attempt, "/x", self.now + SUBMIT_WINDOW_S)
                self.jobs[job.id] = replace(job, state=State.DOWNLOADING, transfer=transfer)

    def ran_s(self, job: Job) -> float:
        assert job.transfer is not None
        return self.now - (job.transfer.submit_until - SUBMIT_WINDOW_S)

    def look(self) -> None:
        given = [job for job in self.jobs.values() if job.transfer]
        at_engine = [job for job in given if job.state is State.DOWNLOADING]
        killers = [job for job in at_engine if (after := self.kills_after[job.id]) is not None and self.ran_s(job) >= after]
        for job in killers:
            self.deaths[job.id] = self.deaths.get(job.id, 0) + 1
        if not killers:
            for job in at_engine:
                if self.kills_after[job.id] is None and self.ran_s(job) >= self.takes_s:
                    self.jobs[job.id] = replace(job, state=State.DONE)
            return
        seen_at = self.now - 1.0
        self.jobs |= {new.id: new for _, new in after_death(given, seen_at, self.now, self.now)}


@settings(deadline=None, max_examples=60)
@given(
    killers=st.lists(st.integers(0, 25), min_size=1, max_size=4),
    innocents=st.integers(1, 15),
    takes_s=st.integers(1, 100),
    slots=st.integers(2, 30),
)
def test_who_kills_its_engine_fails_and_who_does_not_is_done(killers: list[int], innocents: int, takes_s: int, slots: int) -> None:
    kills_after: dict[str, float | None] = {f"k{n}": float(after) for n, after in enumerate(killers)}
    kills_after |= {f"i{n}": None for n in range(innocents)}
    world = World(kills_after, takes_s, slots)
    world.run(20_000)
    ends = {id: job.state for id, job in world.jobs.items()}
    assert {id for id, state in ends.items() if state is State.FAILED} == {f"k{n}" for n in range(len(killers))}, world.jobs
    assert all(count <= 2 * TRIES_MAX + len(killers) for count in world.deaths.values()), world.deaths


@settings(deadline=None, max_examples=60)
@given(after=st.integers(0, 25), innocents=st.integers(0, 30), takes_s=st.integers(1, 100))
def test_one_that_starts_together_with_others_fails_with_its_fourth_death(after: int, innocents: int, takes_s: int) -> None:
    world = World({"k": float(after)} | dict.fromkeys((f"i{n}" for n in range(innocents)), None), takes_s, slots=100)
    world.run(20_000)
    assert world.deaths == {"k": TRIES_MAX}
    assert [job.id for job in world.jobs.values() if job.state is State.FAILED] == ["k"]
