"""Engines that come while a supervisor runs in the mode `strict`: none gets a job before it is proved to be guarded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.machine import MAGNET, services_of
from tests.waiting import until
from worker import pipeline
from worker.engines.fake import FakeEngine
from worker.jobs.errors import Transient
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import State
from worker.ports import Engine, Services
from worker.store.sqlite.store import SqliteStore
from worker.supervision import probation
from worker.supervision.supervisor import Supervisor

REACHED = "it reached the private address 10.0.0.1 of this machine"
GIVEN_NOTHING = f"is given nothing before it is proved to be kept out of private networks: {REACHED}"


class Proof:
    """Answers for each engine by its name; what is not known does not answer."""

    def __init__(self) -> None:
        self.answers: dict[str, str | None] = {"a": None}
        self.asked: list[str] = []

    def __call__(self, engine: Engine) -> str | None:
        self.asked.append(engine.name)
        if engine.name not in self.answers:
            raise Transient(f"engine {engine.name}", "no answer in time")
        return self.answers[engine.name]


@pytest.fixture
def proof() -> Proof:
    return Proof()


@pytest.fixture
def engines(tmp_path: Path) -> dict[str, Engine]:
    return {"a": FakeEngine(str(tmp_path), name="a")}


@pytest.fixture
def services(tmp_path: Path, engines: dict[str, Engine], monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(probation, "LOOK_S", 0.02)
    monkeypatch.setattr(probation, "FIRST_S", 0.05)
    services = services_of(tmp_path, SqliteStore(tmp_path / "haul.db"), [])
    yield replace(services, engines=engines)
    services.close()


@pytest.fixture
def supervisor(services: Services, proof: Proof) -> Iterator[Supervisor]:
    supervisor = Supervisor(services, pipeline.sweep, proof)
    supervisor.start()
    yield supervisor
    assert supervisor.stop(), "all loops end"


def ask(services: Services, engine: str) -> str:
    [answer] = pipeline.accept(services, [Request(Source(SourceKind.MAGNET, MAGNET), "u", engine=engine)])
    assert not isinstance(answer, Exception), answer
    return answer.job.id


def looked_after(services: Services, name: str) -> bool:
    seen = services.coordinator.snapshots().get(name)
    return seen is not None and seen.error is None


def test_an_engine_that_is_added_gets_its_first_job_once_it_is_proved(
    supervisor: Supervisor, services: Services, engines: dict[str, Engine], proof: Proof, tmp_path: Path
) -> None:
    new = FakeEngine(str(tmp_path), name="b")
    until(lambda: looked_after(services, "a"), "the first one is looked after")
    proof.answers["b"] = REACHED
    engines["b"] = new
    id = ask(services, "b")
    until(lambda: proof.asked.count("b") >= 2, "it is tried again")
    pipeline.admit(services, 100)
    why = pipeline.why(services, id)
    assert (why.job.state, why.reason) == (State.QUEUED, "engine")
    assert why.text.startswith(f"b {GIVEN_NOTHING}")
    shown = {engine["name"]: engine for engine in pipeline.overview(services)["engines"]}
    assert (shown["b"]["up"], shown["b"]["error"], shown["a"]["up"]) == (False, GIVEN_NOTHING, True)
    assert not new.calls, "nobody gave it anything, or asked it for what it has"

    proof.answers["b"] = None

    def started() -> bool:
        pipeline.admit(services, 100)
        return services.store.get([id])[id].state is State.DOWNLOADING

    until(started, "it runs")
    assert proof.asked.count("a") == 1, "an engine that is proved is not tried again"


def test_an_engine_that_does_not_answer_is_tried_again_and_holds_up_no_end(
    supervisor: Supervisor, services: Services, engines: dict[str, Engine], proof: Proof, tmp_path: Path
) -> None:
    engines["b"] = FakeEngine(str(tmp_path), name="b")
    until(lambda: proof.asked.count("b") >= 2, "it is tried again")
    until(lambda: "no answer in time" in str(services.coordinator.snapshots()["b"].error), "it is said")
    assert "engine-b" in supervisor.loops()


def test_a_supervisor_that_cannot_prove_an_engine_hides_it_from_nobody(
    supervisor: Supervisor, services: Services, engines: dict[str, Engine], proof: Proof, tmp_path: Path
) -> None:
    until(lambda: looked_after(services, "a"), "the first one is looked after")
    seen = replace(services.coordinator.snapshots()["a"], name="b", owner="another")
    services.coordinator.put_snapshot(seen)
    proof.answers["b"] = REACHED
    engines["b"] = FakeEngine(str(tmp_path), name="b")
    until(lambda: proof.asked.count("b") >= 2, "it is tried")
    assert services.coordinator.snapshots()["b"] == seen
