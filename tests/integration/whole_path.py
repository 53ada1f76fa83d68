"""The whole path of jobs over a real store with an advisor that sees everything: every step, ticks and the HTTP API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from tests.machine import services_of
from worker import pipeline
from worker.api.server import serve
from worker.engines.fake import FakeEngine
from worker.jobs.model import Request, Source, SourceKind
from worker.jobs.states import Action, State
from worker.ports import Services, Step
from worker.store import open_store
from worker.store.advisor import Advisor
from worker.store.advisor.tally import Tallies
from worker.supervision.owner import Owner

#: More than what counts as a loop.
JOBS = 24
ROUNDS = 10
KEY = "k" * 32


@contextmanager
def path_of(url: str, directory: Path) -> Iterator[tuple[Services, Advisor, FakeEngine]]:
    """Services whose store an advisor watches that follows every read and runs nothing in the background."""
    advisor = Advisor(tallies=Tallies(follow_one_in=1))
    downloads = directory / "downloads"
    downloads.mkdir()
    engine = FakeEngine(str(downloads), slots=JOBS)
    with closing(open_store(url, advisor=advisor)) as store:
        yield services_of(directory, store, [engine], settings={"api_keys": KEY}), advisor, engine


def walk(services: Services, engine: FakeEngine, out: Path) -> None:
    """From the doors to the last notice, with jobs that fail, are paused, cancelled, tried again, and follow others."""
    owner = Owner(services, engine)
    asked = [_request(f"http://host/{number}", f"user {number % 3}", out) for number in range(JOBS)]
    ids = [
        answer.job.id for answer in pipeline.accept(services, [*asked, _request("http://host/1", "another", out)]) if hasattr(answer, "job")
    ]
    assert len(ids) == JOBS + 1
    services.coordinator.offer(
        [{"kind": "request", "id": f"{n:024d}", "spec": {"uri": f"http://host/bot{n}", "user": "bot"}} for n in range(JOBS // 2)]
    )
    _steps(services)
    owner._turn()
    pipeline.sweep(services)
    _steps(services)
    owner._turn()
    for action, id in ((Action.PAUSE, ids[0]), (Action.CANCEL, ids[2])):
        pipeline.control(services, id, action)
    owner._turn()
    owner._turn()
    pipeline.control(services, ids[0], Action.RESUME)
    _reads(services, ids)
    _steps(services)
    owner._turn()
    for _ in range(ROUNDS):
        jobs = services.store.get(ids).values()
        if all(job.terminal for job in jobs):
            break
        for job in jobs:
            if job.state is State.DOWNLOADING and job.transfer:
                engine.complete(engine.handle(job.transfer.id, job.transfer.attempt))
        owner._turn()
        _steps(services)
    owner._loaded_at = float("-inf")  # reconcile, as each minute does
    owner._turn()
    pipeline.sweep(services, rebuilding=True)
    _steps(services)
    states = [job.state for job in services.store.get(ids).values()]
    assert states.count(State.DONE) == JOBS, states


def _request(uri: str, user: str, out: Path) -> Request:
    return Request(Source(SourceKind.HTTP, uri), user, out=str(out))


def _steps(services: Services) -> None:
    for step in Step:
        pipeline.run(services, step)


def _reads(services: Services, ids: list[str]) -> None:
    server = serve(services, host="127.0.0.1", port=0)
    server.start()
    with closing(httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {KEY}"}, timeout=30)) as http:
        paths = ["/v1/jobs", "/v1/jobs?user=user%201", "/v1/jobs?user=user%201&state=done&state=queued", "/v1/jobs?state=downloading"]
        paths += [f"/v1/jobs/{ids[1]}", f"/v1/jobs/{ids[1]}/why", "/v1/engines", "/v1/queue", "/v1/limits/user%201", "/ready", "/metrics"]
        for path in paths:
            assert http.get(path).status_code in (200, 503), path
    server.stop()
