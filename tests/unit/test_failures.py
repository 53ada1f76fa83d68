"""What becomes of a job that its engine gave up: pure, by cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.jobs_by_hypothesis import a_job
from worker.jobs.events import Event, EventType
from worker.jobs.model import Job, Progress, Transfer
from worker.jobs.retries import ELSEWHERE_TRIES, POLICIES, TRIES_MAX
from worker.jobs.states import Cause, Reason, State, Want
from worker.jobs.tried import PROGRESS_BYTES, Tried
from worker.ports import Fault
from worker.supervision.failures import Around, failed

AT, NOW = 50.0, 1_000.0
ALONE, BOTH = Around(frozenset({"a"})), Around(frozenset({"a", "b"}))


def running(engine: str = "a", **changes: object) -> Job:
    return a_job(state=State.DOWNLOADING, reason=None, transfer=Transfer("j1", engine, 1, "/w", 0.0), **changes)


def after(job: Job, fault: Fault, world: Around = ALONE) -> Job:
    new = failed(job, fault, AT, NOW, world)
    assert new is not None
    return new


def next_try(job: Job, engine: str = "a") -> Job:
    """The job once it runs again."""
    id = job.transfer.id if job.transfer else f"j1-{job.handed}"
    return replace(job, state=State.DOWNLOADING, reason=None, transfer=Transfer(id, engine, job.attempt, "/w", 0.0))


def tries_of(fault: Fault, world: Around = ALONE, *, engines: str = "a" * 99) -> tuple[int, Job]:
    """How often it runs until it is given up, on these engines in turn."""
    job, count = running(engines[0]), 1
    while not (job := after(job, fault, world)).terminal:
        job, count = next_try(job, engines[count]), count + 1
    return count, job


@pytest.mark.parametrize("cause", [cause for cause in Cause if POLICIES[cause].tries])
def test_a_fault_that_may_pass_is_tried_again_as_often_as_its_cause_allows(cause: Cause) -> None:
    count, job = tries_of(Fault(cause, True, "busy"))
    assert count == POLICIES[cause].tries + 1
    assert (job.cause, job.message, job.failures) == (cause, "busy", count - 1)
    assert job.tried == (Tried("a", cause, "busy", count),)
    assert job.unsent[-1].data == {"cause": cause, "reason": "busy"}


@pytest.mark.parametrize("cause", list(Cause))
def test_a_fault_that_stays_fails_the_job_at_once(cause: Cause) -> None:
    count, job = tries_of(Fault(cause, False, "no"), BOTH)
    assert (count, job.cause, job.message) == (1, cause, "no")


@pytest.mark.parametrize("cause", [cause for cause in Cause if POLICIES[cause].tries])
def test_the_back_off_doubles_and_is_bounded_and_jittered(cause: Cause) -> None:
    policy = POLICIES[cause]
    for failures in range(40):
        ceiling = min(policy.max_s, policy.first_s * 2**failures)
        assert ceiling / 2 <= policy.backoff_s(failures) <= ceiling
    assert len({policy.backoff_s(3) for _ in range(9)}) > 1


def test_what_was_waited_for_in_vain_rests_before_it_is_tried_again_and_longer_each_time() -> None:
    job, waited = running(), []
    fault = Fault(Cause.METADATA, True, "nobody sent it", elsewhere=True, retry_after_s=60.0)
    for engine in "abab":
        job = after(replace(job, transfer=Transfer("j1", engine, job.attempt, "/w", 0.0)), fault, BOTH)
        waited.append(job.not_before - NOW)
        job = next_try(job, "b") if not job.terminal else job
    assert waited[0] <= 1, "on another engine at once"
    assert 60 <= waited[1] <= 66
    assert 120 <= waited[2] <= 132


def test_each_cause_has_its_own_limit() -> None:
    job = running()
    for cause in (Cause.INTERRUPTED, Cause.HTTP) * 4:
        job = next_try(after(job, Fault(cause, True, str(cause))))
    assert after(job, Fault(Cause.HTTP, True, "x")).state is State.FAILED
    assert after(job, Fault(Cause.INTERRUPTED, True, "x")).state is State.QUEUED


def test_all_causes_together_have_a_limit_and_so_has_the_time_since_the_user_asked() -> None:
    passing = Fault(Cause.INTERRUPTED, True, "cut")
    assert after(running(failures=TRIES_MAX - 1), passing).state is State.QUEUED
    assert after(running(failures=TRIES_MAX), passing).state is State.FAILED
    asked = (Event(1, AT - 100, "queued", EventType.QUEUED), Event(2, AT - 1, "a has it", EventType.STARTED))
    for give_up_s, state in ((101.0, State.QUEUED), (100.0, State.FAILED)):
        job = after(running(events=asked), passing, replace(ALONE, give_up_s=give_up_s))
        assert (job.state, job.message) == (state, "cut" if state is State.QUEUED else "cut; it was tried for too long, or too often")


def test_a_download_that_got_further_is_counted_anew() -> None:
    job, fault = running(), Fault(Cause.INTERRUPTED, True, "cut")
    for done in range(20):
        job = next_try(after(replace(job, progress=Progress(done * PROGRESS_BYTES)), fault))
    assert job.tried == (Tried("a", Cause.INTERRUPTED, "cut", 1, 19 * PROGRESS_BYTES),)
    assert job.failures == 1


def test_a_server_that_falls_silent_in_the_middle_is_tried_more_often_than_one_that_never_answered() -> None:
    silent = Fault(Cause.UNREACHABLE, True, "no answer")
    first = next_try(after(running(), silent))
    assert after(first, silent).cause is Cause.UNREACHABLE
    begun = replace(running(), progress=Progress(5))
    assert after(next_try(after(begun, silent)), silent).tried == (Tried("a", Cause.INTERRUPTED, "no answer", 2, 5),)


# ---- another engine --------------------------------------------------------------------------------------------


def test_what_is_the_engines_fault_goes_to_another_engine_and_both_are_named_when_that_fails_as_well() -> None:
    job = after(running(), Fault(Cause.DISK, False, "the disk is read-only", elsewhere=True), BOTH)
    assert (job.state, job.avoid, job.attempt) == (State.QUEUED, ("a",), 2)
    assert "a: the disk is read-only; attempt 2 on b in " in job.events[-1].text
    job = after(next_try(job, "b"), Fault(Cause.ENGINE, False, "refused an option", elsewhere=True), BOTH)
    assert (job.state, job.cause, job.avoid) == (State.FAILED, Cause.ENGINE, ("a", "b"))
    assert job.message == "a: the disk is read-only; b: refused an option"


def test_another_engine_comes_before_another_try_and_does_not_count_as_one() -> None:
    fault = Fault(Cause.METADATA, True, "nobody sent it", elsewhere=True)
    count, job = tries_of(fault, BOTH, engines="abab" * 9)
    assert count == POLICIES[Cause.METADATA].tries + 2
    assert job.message == "a (2 times): nobody sent it; b (2 times): nobody sent it"


def test_a_job_that_named_its_engine_goes_to_no_other() -> None:
    assert after(running(), Fault(Cause.DISK, False, "read-only", elsewhere=True), ALONE).state is State.FAILED


def test_what_only_an_engine_that_is_away_could_do_is_given_up_in_the_end() -> None:
    count, job = tries_of(Fault(Cause.DISK, False, "read-only", elsewhere=True), BOTH)
    assert (count, job.state) == (ELSEWHERE_TRIES + 1, State.FAILED)


# ---- from the start --------------------------------------------------------------------------------------------


def test_bytes_that_are_of_no_use_are_left_behind_once() -> None:
    fault = Fault(Cause.DISK, False, "does not fit", anew=True)
    job = after(running(), fault)
    assert (job.state, job.transfer, job.handed, job.attempt) == (State.QUEUED, None, 1, 2)
    assert "attempt 2 from the start" in job.events[-1].text
    assert after(next_try(job), fault).state is State.FAILED


def test_what_may_go_on_is_tried_as_it_is_before_it_begins_from_the_start() -> None:
    fault, job, handed = Fault(Cause.INTERRUPTED, True, "the rest was refused", anew=True), running(), []
    while not (job := after(job, fault)).terminal:
        handed.append(job.handed)
        job = next_try(job)
    assert handed == [0] * POLICIES[Cause.INTERRUPTED].tries + [1]


# ---- and the rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("probes", "reason"), [(True, Reason.PROBE), (False, Reason.SCHEDULE)])
def test_a_busy_server_is_asked_when_to_come_back_where_it_may_be_asked(probes: bool, reason: Reason) -> None:
    job = after(running(), Fault(Cause.BUSY, True, "too many requests"), replace(ALONE, probes=probes))
    assert (job.reason, job.not_before >= NOW + POLICIES[Cause.BUSY].first_s / 2) == (reason, True)


def test_a_full_disk_is_waited_out_and_counts_as_nothing() -> None:
    job = after(running(), Fault(Cause.DISK, True, "no space", wait=Reason.SPACE))
    assert (job.state, job.reason, job.attempt, job.failures, job.tried) == (State.QUEUED, Reason.SPACE, 1, 0, ())


def test_who_is_being_cancelled_or_has_ended_is_left_alone() -> None:
    fault = Fault(Cause.HTTP, True, "x")
    assert failed(running(want=Want.CANCEL), fault, AT, NOW, ALONE) is None
    assert failed(replace(running(), state=State.FINISHING), fault, AT, NOW, ALONE) is None


def test_what_was_tried_stays_short() -> None:
    job = running()
    for number in range(TRIES_MAX):
        job = next_try(after(job, Fault(Cause.ENGINE, True, "x")), f"e{number}")
    assert len(job.tried) <= 16
