"""Whether a job may start, and where: values in, a value out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.admission.decide import Admit, EngineView, Wait, decide
from worker.jobs.model import Job, Transfer, new_job
from worker.jobs.requests import parse
from worker.jobs.states import Reason, State


def engine(name: str = "a", **changes: object) -> EngineView:
    base = EngineView(name, frozenset({"http"}), capacity=2, live=0, alive=True)
    return replace(base, **changes)  # type: ignore[arg-type]


def queued(**changes: object) -> Job:
    return replace(new_job(parse({"uri": "http://host/x", "user": "u"}), 1.0), **changes)  # type: ignore[arg-type]


def views(*engines: EngineView) -> dict[str, EngineView]:
    return {view.name: view for view in engines}


def test_a_job_starts_on_the_engine_with_the_largest_share_of_free_slots() -> None:
    assert decide(queued(), views(engine("a", capacity=10, live=5), engine("b", capacity=2, live=0)), 0) == Admit("b")


def test_equal_engines_are_taken_in_the_order_of_their_names() -> None:
    assert decide(queued(), views(engine("b"), engine("a")), 0) == Admit("a")


@pytest.mark.parametrize(
    ("job", "engines", "reason", "words"),
    [
        (queued(), [engine(live=2)], Reason.SLOTS, "all 2 slots of a are taken"),
        (queued(), [engine(alive=False)], Reason.ENGINE, "a does not answer"),
        (queued(), [], Reason.ENGINE, "no engine can fetch http"),
        (queued(), [engine(kinds=frozenset({"magnet"}))], Reason.ENGINE, "no engine can fetch http"),
        (queued(engine="z"), [engine()], Reason.ENGINE, "engine z is not set up"),
        (queued(not_before=15.0, message="refused"), [engine()], Reason.SCHEDULE, "tries again in 5 s: refused"),
    ],
)
def test_a_job_that_cannot_start_says_why(job: Job, engines: list[EngineView], reason: Reason, words: str) -> None:
    decision = decide(job, views(*engines), now=10.0)
    assert isinstance(decision, Wait)
    assert decision.reason is reason
    assert words in decision.text


def test_a_resumed_job_goes_back_to_the_engine_that_holds_its_bytes() -> None:
    job = queued(transfer=Transfer("t", "b", 1, "/w", 0.0))
    assert decide(job, views(engine("a"), engine("b", live=1)), 0) == Admit("b")


def test_a_new_attempt_may_go_to_another_engine() -> None:
    job = queued(transfer=Transfer("t", "b", 1, "/w", 0.0), attempt=2)
    assert decide(job, views(engine("a"), engine("b", live=2)), 0) == Admit("a")


def test_only_queued_jobs_are_asked_about() -> None:
    assert queued().state is State.QUEUED
