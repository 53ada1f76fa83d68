"""An engine dies with jobs on it: they end on the other, and it is trusted again by what it shows."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.engines import Aria2
from tests.e2e.stack import Stack, digest, eventually
from worker import pipeline
from worker.jobs.model import Job

SIZE = 300_000
#: A second: long enough that all run when the engine is killed.
RATE = 100_000
JOBS = 12


def engine_of(job: Job) -> str | None:
    return job.transfer.engine if job.transfer else None


def breaker(stack: Stack, engine: str) -> str:
    return str(next(row["breaker"] for row in pipeline.overview(stack.services)["engines"] if row["name"] == engine))


def ask(stack: Stack, numbers: range, size: int = SIZE, rate: int = RATE) -> dict[str, int]:
    """So many jobs, each for bytes of its own; id and seed."""
    specs = [{"uri": f"file/f{n}?size={size}&seed={n}&rate={rate}", "user": "u", "tier": "admin"} for n in numbers]
    return dict(zip(stack.ask_all(specs), numbers, strict=True))


def check(stack: Stack, jobs: dict[str, int], size: int = SIZE) -> None:
    for id, number in jobs.items():
        stack.check_delivered(id, digest(size, number), f"f{number}")


def rows(engine: Aria2) -> list[str]:
    """The names of all that it has and that has not ended."""
    found = [*engine.rpc("tellActive", ["gid"]), *engine.rpc("tellWaiting", 0, 1000, ["gid"])]
    return [row["gid"] for row in found]


def test_the_jobs_of_a_killed_engine_end_on_the_other_and_when_it_is_back_it_is_tried_and_trusted(tmp_path: Path) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "aria2-2")) as stack:
        stack.work(HAUL_FAILOVER_S="2")
        jobs = ask(stack, range(JOBS))
        stack.until_all(list(jobs), "downloading")
        found = stack.services.store.get(jobs)
        killed = [id for id in jobs if engine_of(found[id]) == "aria2"]
        assert len(killed) == JOBS / 2, "in turns"
        stack.aria2.process.kill()
        stack.aria2.process.wait()

        stack.until_all(list(jobs), timeout_s=90)
        for id in jobs:
            assert stack.job(id).attempt == (2 if id in killed else 1)
            assert stack.told(id)[-1] == "job.completed"
        assert breaker(stack, "aria2") == "open"

        stack.aria2.restart()
        stack.aria2.await_ready()
        eventually(lambda: breaker(stack, "aria2") == "half-open", "it answers", 60, stack.tail)
        aria2 = stack.engines["aria2"]
        assert isinstance(aria2, Aria2)
        eventually(lambda: not rows(aria2), "what it had goes", 60, stack.tail)
        check(stack, jobs)
        again = ask(stack, range(JOBS, 2 * JOBS))
        stack.until_all(list(again), timeout_s=90)
        check(stack, again)
        assert breaker(stack, "aria2") == "closed", stack.tail()
        assert {engine_of(stack.job(id)) for id in again} == {"aria2", "aria2-2"}
        eventually(
            lambda: not list(stack.downloads.glob(".haul/*")),
            "no work directory is left",
            90,
            lambda: list(stack.downloads.glob(".haul/*/*")),
        )
