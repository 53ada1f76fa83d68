"""Messages and `.torrent` files that workers died with: a real store, a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.integration.doors import services_on, until
from tests.origin import Origin
from tests.torrents import pack
from worker import pipeline
from worker.admission import doors
from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.redis import RedisCoordinator
from worker.jobs.model import Job, job_id
from worker.jobs.requests import parse
from worker.jobs.states import Cause, State
from worker.ports import Services, Step
from worker.tries import TRIES_MAX

RECLAIM_S = 0.2


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(doors, "INTAKE_CLAIM_S", 1.5 * RECLAIM_S)
    with services_on(valkey.url, key_prefix, tmp_path, allow_networks="127.0.0.1/32") as built:
        hasty = RedisCoordinator(valkey.url, prefix=key_prefix, bounds=Bounds(reclaim_s=RECLAIM_S))
        yield replace(built, coordinator=hasty)
        hasty.close()


def begun_by_the_dead(services: Services, step: Step, id: str, times: int) -> None:
    for _ in range(times):
        services.coordinator.begin(step, [id], again=True)


def sample(services: Services, name: str, **labels: str) -> float:
    return services.metrics.registry.get_sample_value(name, labels) or 0.0


def test_a_message_that_kills_whoever_deals_with_it_is_parked_and_those_around_it_are_recorded_in_order(services: Services) -> None:
    def request(key: str) -> dict[str, Any]:
        return {"kind": "request", "id": job_id("u", key), "spec": {"uri": "https://example.org/file", "user": "u", "key": key}}

    pause = {"kind": "control", "job": job_id("u", "before"), "action": "pause"}
    services.coordinator.offer([request("before"), request("poison"), pause, request("after")])
    ids = [entry.id for entry in services.coordinator.take_intake("dead", 10)]
    for id in ids:
        begun_by_the_dead(services, Step.INTAKE, id, 1)
    begun_by_the_dead(services, Step.INTAKE, ids[1], TRIES_MAX - 1)

    until(lambda: doors.intake(services, 100), "the messages come back")

    known = services.store.get([job_id("u", key) for key in ("before", "poison", "after")])
    assert {job.key: job.state for job in known.values()} == {"before": State.PAUSED, "after": State.QUEUED}
    assert (services.coordinator.intake_size(), services.coordinator.parked_size()) == (0, 1)
    assert pipeline.overview(services)["parked"] == 1
    assert sample(services, "haul_intake_parked_total") == sample(services, "haul_poisonous_total", step="intake") == 1
    assert services.coordinator.begin(Step.INTAKE, ids) == {}


@pytest.fixture
def torrents(services: Services) -> Iterator[list[Job]]:
    """Three jobs whose `.torrent` files are to be fetched."""
    with Origin() as origin:
        asked = [parse({"uri": origin.document(f"{n}.torrent", pack({f"{n}": b"x"}).document), "user": "u"}) for n in range(3)]
        yield [answer.job for answer in pipeline.accept(services, asked) if isinstance(answer, pipeline.Accepted)]


def test_a_torrent_file_that_kills_whoever_reads_it_fails_its_job_and_the_others_are_described(
    services: Services, torrents: list[Job]
) -> None:
    poison, blamed, fresh = torrents
    begun_by_the_dead(services, Step.DESCRIBE, poison.id, TRIES_MAX)
    begun_by_the_dead(services, Step.DESCRIBE, blamed.id, 1)

    pipeline.run(services, Step.DESCRIBE)

    found = services.store.get([job.id for job in torrents])
    assert found[poison.id].state is State.FAILED
    assert found[poison.id].cause is Cause.WORKER
    assert found[poison.id].message == "the worker died 4 times while it fetched and read the .torrent file"
    assert all(found[job.id].description for job in (blamed, fresh))
    assert sample(services, "haul_poisonous_total", step="describe") == 1
    assert services.coordinator.begin(Step.DESCRIBE, [job.id for job in torrents]) == {}
