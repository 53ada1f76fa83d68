"""What a process died with is dealt with alone, and given up after four deaths; nobody else pays for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.machine import MAGNET, Machine
from worker import tries
from worker.admission.admit import admit
from worker.delivery.finish import finish
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.events import EventType
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import Action, Cause, State
from worker.pipeline import accept, control
from worker.ports import Services, Step
from worker.tries import TRIES_MAX


@pytest.fixture
def services(machine: Machine) -> Services:
    return machine.services


def begun_by_the_dead(services: Services, step: Step, id: str, times: int) -> None:
    for _ in range(times):
        services.coordinator.begin(step, [id], again=True)


def given_up(services: Services, step: Step) -> float:
    return services.metrics.registry.get_sample_value("haul_poisonous_total", {"step": step}) or 0.0


@pytest.mark.parametrize("ends_by", [None, ValueError])
def test_work_that_ends_leaves_no_trace_well_or_with_an_exception(services: Services, ends_by: type[Exception] | None) -> None:
    for _ in range(2 * TRIES_MAX):
        try:
            with tries.together(services, Step.FINISH, ["a", "b"]) as deaths:
                assert deaths == {}
                if ends_by:
                    raise ends_by
            with tries.alone(services, Step.FINISH, "a") as hopeful:
                assert hopeful
        except ValueError:
            continue


def test_neighbours_of_a_poison_are_counted_once_and_then_go_alone(services: Services) -> None:
    begun = services.coordinator.begin
    assert begun(Step.FINISH, ["innocent", "poison"]) == {}  # and dies
    for deaths in range(1, TRIES_MAX):
        with tries.together(services, Step.FINISH, ["innocent", "poison", "new"]) as blamed:
            assert blamed == {"innocent": 1, "poison": deaths}
        assert begun(Step.FINISH, ["poison"], again=True) == {"poison": deaths}  # alone, and dies
    with tries.alone(services, Step.FINISH, "innocent") as hopeful:
        assert hopeful
    with tries.alone(services, Step.FINISH, "poison") as hopeful:
        assert not hopeful
    with tries.together(services, Step.FINISH, ["innocent", "poison"]) as blamed:
        assert blamed == {}, "both have ended"


def test_without_redis_nothing_is_known_and_the_work_goes_on(machine: Machine) -> None:
    begun_by_the_dead(machine.services, Step.START, "a", TRIES_MAX)
    machine.services.coordinator.down = True  # type: ignore[attr-defined]
    with tries.together(machine.services, Step.START, ["a", "b"]) as deaths:
        assert deaths == {}
    with tries.alone(machine.services, Step.START, "a") as hopeful:
        assert hopeful


def admitted(machine: Machine, *keys: str) -> list[str]:
    """Jobs that wait to be handed over."""
    machine.tick()
    uris = {key: f"{MAGNET[:-2]}{n:02d}" for n, key in enumerate(keys)}
    asked = [Request(Source(SourceKind.MAGNET, uri), "u", key) for key, uri in uris.items()]
    ids = [answer.job.id for answer in accept(machine.services, asked) if not isinstance(answer, Exception)]
    admit(machine.services, 100)
    assert {machine.job(id).state for id in ids} == {State.SUBMITTING}
    return ids


def test_a_job_that_kills_whoever_hands_it_over_fails_and_the_others_start(machine: Machine, services: Services) -> None:
    poison, innocent, fresh = admitted(machine, "poison", "innocent", "fresh")
    begun_by_the_dead(services, Step.START, poison, TRIES_MAX)
    begun_by_the_dead(services, Step.START, innocent, 1)
    before = machine.engine.calls["submit"]

    machine.tick()

    assert [machine.job(id).state for id in (poison, innocent, fresh)] == [State.FAILED, State.DOWNLOADING, State.DOWNLOADING]
    assert machine.engine.calls["submit"] - before == 2, "the one that was blamed went by itself"
    failed = machine.job(poison)
    assert (failed.cause, failed.message) == (Cause.WORKER, "the worker died 4 times while it handed the job to fake")
    assert failed.events[-1].type is EventType.FAILED
    assert given_up(services, Step.START) == 1
    assert services.metrics.registry.get_sample_value("haul_jobs_ended_total", {"state": "failed", "cause": "worker"}) == 1

    control(services, poison, Action.RETRY)
    assert services.coordinator.begin(Step.START, [poison]) == {}, "a retry starts anew"


def test_what_an_owner_died_with_waits_while_another_engines_owner_hands_over_such_a_job(machine: Machine, services: Services) -> None:
    [suspect] = admitted(machine, "suspect")
    begun_by_the_dead(services, Step.START, suspect, 1)
    assert services.coordinator.claim("start:suspects", "another", 60.0)
    machine.tick()
    assert machine.job(suspect).state is State.SUBMITTING
    services.coordinator.unclaim("start:suspects", "another")
    machine.tick()
    assert machine.job(suspect).state is State.DOWNLOADING


def test_a_job_that_kills_whoever_finishes_it_fails_and_the_others_are_done(machine: Machine, services: Services) -> None:
    ids = [machine.ask(f"{MAGNET[:-2]}{n:02d}") for n in range(3)]
    for id in ids:
        machine.engine.complete(machine.handle(id))
    machine.tick()
    poison, innocent, _ = ids
    begun_by_the_dead(services, Step.FINISH, poison, TRIES_MAX)
    begun_by_the_dead(services, Step.FINISH, innocent, 1)

    assert finish(services, 100) == 3

    assert [machine.job(id).state for id in ids] == [State.FAILED, State.DONE, State.DONE]
    assert machine.job(poison).message == "the worker died 4 times while it checked the job and moved it into place"
    assert given_up(services, Step.FINISH) == 1
    assert services.coordinator.begin(Step.FINISH, ids) == {}


def test_only_one_that_a_worker_died_with_is_finished_at_a_time(machine: Machine, services: Services) -> None:
    id = machine.ask()
    machine.engine.complete(machine.handle(id))
    machine.tick()
    begun_by_the_dead(services, Step.FINISH, id, 1)
    assert services.coordinator.claim("finish:suspects", "another", 60.0)
    assert finish(services, 100) == 0
    services.coordinator.unclaim("finish:suspects", "another")
    assert finish(services, 100) == 1


def test_the_subjects_of_a_failpoint_are_the_jobs(machine: Machine, services: Services) -> None:
    id = machine.ask()
    machine.engine.complete(machine.handle(id))
    machine.tick()
    points = Failpoints(f"finish.begun@{id}:raise:1")
    with pytest.raises(FailpointHit):
        finish(replace(services, failpoints=points), 100)
    assert services.coordinator.begin(Step.FINISH, [id]) == {}, "an exception is no death"
