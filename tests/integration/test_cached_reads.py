"""What the API answers from its cache: never older than what it wrote itself, and soon what others wrote."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.integration.doors import services_on, until
from worker import pipeline
from worker.api.server import serve
from worker.cli.app import app
from worker.cli.servers import Server
from worker.jobs.states import Action
from worker.ports import Change, JobFilter, Kind, Services

URI = "https://example.org/file.iso"


@contextlib.contextmanager
def served(services: Services) -> Iterator[httpx.Client]:
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    try:
        with httpx.Client(base_url=api.url, timeout=10.0) as http:
            yield http
    finally:
        api.stop()


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@pytest.fixture
def elsewhere(valkey: Server, key_prefix: str, tmp_path: Path, services: Services) -> Iterator[Services]:
    """Another process on the same records."""
    with services_on(valkey.url, key_prefix, tmp_path) as services:
        yield services


@pytest.fixture
def http(services: Services) -> Iterator[httpx.Client]:
    with served(services) as http:
        yield http


def stale_s(fresh: Callable[[], bool]) -> float:
    """How long after now the last look began that was not fresh; how long a look takes, on a slow machine too, is no part of it."""
    begun, last = time.monotonic(), 0.0

    def look() -> bool:
        nonlocal last
        at = time.monotonic() - begun
        seen = fresh()
        last = last if seen else at
        return seen

    until(look, "what is new")
    return last


def counted(services: Services, monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The arguments of each call of this method of the store from now on."""
    calls: list[Any] = []
    real = getattr(services.store, name)

    def call(*args: Any, **more: Any) -> Any:
        calls.append(args)
        return real(*args, **more)

    monkeypatch.setattr(services.store, name, call)
    return calls


def test_many_readers_of_a_job_cost_one_look_into_the_store_a_second(
    services: Services, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = http.post("/v1/jobs", json={"uri": URI, "user": "u"}).json()["id"]
    gets, pages = counted(services, monkeypatch, "get"), counted(services, monkeypatch, "page")
    begun = time.monotonic()
    for _ in range(30):
        assert http.get(f"/v1/jobs/{id}").json()["id"] == id
        assert len(http.get("/v1/jobs", params={"user": "u"}).json()["jobs"]) == 1
    most = 2 + (time.monotonic() - begun) / 0.8
    assert 1 <= len(gets) <= most
    assert 1 <= len(pages) <= most


def test_a_job_is_read_as_the_same_process_wrote_it_each_time(http: httpx.Client) -> None:
    """200 writes, each read back at once, alone and in its list."""
    ids = [http.post("/v1/jobs", json={"uri": URI, "user": "ü 1", "key": str(number)}).json()["id"] for number in range(3)]
    for number in range(200):
        id, action = ids[number % 3], "pause" if number // 3 % 2 == 0 else "resume"
        written = http.post(f"/v1/jobs/{id}/{action}").json()
        assert http.get(f"/v1/jobs/{id}").json()["version"] == written["version"]
        listed = {job["id"]: job for job in http.get("/v1/jobs", params={"user": "ü 1"}).json()["jobs"]}
        assert listed[id]["version"] == written["version"]
        assert http.get("/v1/jobs").json()["jobs"]


def test_a_job_that_was_not_there_is_there_once_it_is_recorded(services: Services, elsewhere: Services, http: httpx.Client) -> None:
    from worker.jobs.model import Request, Source, SourceKind, job_id

    id = job_id("u", "k")
    assert http.get(f"/v1/jobs/{id}").status_code == 404
    assert http.get(f"/v1/jobs/{id}").status_code == 404
    until(lambda: services.cache.stats().live, "the subscription")
    pipeline.accept(elsewhere, [Request(Source(SourceKind.HTTP, URI), "u", key="k")])
    until(lambda: http.get(f"/v1/jobs/{id}").status_code == 200, "the job")


def test_what_another_process_wrote_is_read_soon_and_within_a_second_at_worst(
    services: Services, elsewhere: Services, http: httpx.Client
) -> None:
    id = http.post("/v1/jobs", json={"uri": URI, "user": "u"}).json()["id"]
    http.get(f"/v1/jobs/{id}")
    until(lambda: services.cache.stats().live, "the subscription")
    best = worst = None
    for number in range(10):
        http.get(f"/v1/jobs/{id}")
        job = pipeline.control(elsewhere, id, Action.PAUSE if number % 2 == 0 else Action.RESUME)
        begun = time.monotonic()
        until(lambda version=job.version: http.get(f"/v1/jobs/{id}").json()["version"] == version, "the change")
        took = time.monotonic() - begun
        best, worst = min(best or took, took), max(worst or took, took)
    print(f"best {best:.4f} s, worst {worst:.4f} s")
    assert best is not None
    assert best < 0.1


def test_a_write_whose_answer_was_lost_ends_what_was_read_before_it(services: Services, http: httpx.Client) -> None:
    id = http.post("/v1/jobs", json={"uri": URI, "user": "u"}).json()["id"]
    version = http.get(f"/v1/jobs/{id}").json()["version"]
    real = services.store._store  # type: ignore[attr-defined]

    class Lossy:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def apply(self, *args: Any) -> Any:
            real.apply(*args)
            raise ConnectionError

    services.store._store = Lossy()  # type: ignore[attr-defined]
    job = real.get([id])[id]
    with pytest.raises(ConnectionError):
        services.store.apply([Change(job, job.noted(time.time(), "x"))])
    assert http.get(f"/v1/jobs/{id}").json()["version"] == version + 1


def test_no_read_of_the_api_fails_or_is_old_while_redis_is_away(
    services: Services, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.coordination.cache.redis import RedisShared
    from worker.jobs.errors import Transient

    def away(*args: Any, **more: Any) -> Any:
        raise Transient("redis", "is away")

    for name in ("read", "keep", "give_up", "invalidate"):
        monkeypatch.setattr(RedisShared, name, away)
    services.cache._outbound._tell = away  # type: ignore[attr-defined]
    id = http.post("/v1/jobs", json={"uri": URI, "user": "u"}).json()["id"]
    for number in range(20):
        written = http.post(f"/v1/jobs/{id}/{'pause' if number % 2 == 0 else 'resume'}").json()
        answers = [http.get(f"/v1/jobs/{id}") for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.json()["version"] for answer in answers} == {written["version"]}
    assert services.store.page(JobFilter(user="u"), 1).jobs[0].version == written["version"]


def test_the_commands_show_and_clear_what_the_processes_share(
    services: Services, valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, http: httpx.Client
) -> None:
    http.get("/v1/queue")
    until(lambda: services.cache.stats().live, "the subscription")
    until(lambda: http.get("/v1/queue").is_success and services.cache.stats().shared_entries, "an entry on the server")
    own = {"HAUL_REDIS_URL": valkey.url, "HAUL_KEY_PREFIX": key_prefix, "HAUL_DATA_DIR": str(tmp_path), "HAUL_ENGINES": ""}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    seen = json.loads(CliRunner().invoke(app, ["cache", "stats", "--json"]).stdout)
    assert seen["shared_bytes_max"] == 64 << 20
    assert 0 < seen["shared_bytes"] < 100_000
    assert " of 64.0 MiB" in CliRunner().invoke(app, ["cache", "stats"]).stdout
    stays = Kind("stays", 60.0)
    services.cache.get(stays, "k", lambda: 1)
    assert services.cache.get(stays, "k", lambda: 2) == 1
    assert CliRunner().invoke(app, ["cache", "clear"]).stdout == "cleared\n"
    until(lambda: services.cache.get(stays, "k", lambda: 2) == 2, "it is forgotten here too")


def test_what_became_of_reads_is_in_the_metrics(http: httpx.Client) -> None:
    id = http.post("/v1/jobs", json={"uri": URI, "user": "u"}).json()["id"]
    for _ in range(5):
        http.get(f"/v1/jobs/{id}")
    text = http.get("/metrics").text
    counts = {line.split(" ")[0]: float(line.split(" ")[1]) for line in text.splitlines() if line.startswith("haul_cache_")}
    assert (
        counts['haul_cache_reads_total{cache="job",outcome="local"}'] + counts['haul_cache_reads_total{cache="job",outcome="misses"}'] == 5
    )
    assert counts["haul_cache_bytes"] > 300


def test_scrapers_of_all_processes_cost_one_count_of_all_jobs_in_some_seconds_and_show_what_is_so_within_them(
    services: Services, elsewhere: Services, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.reads.STATISTICS", Kind("statistics", 2.0))
    http.get("/v1/queue")
    until(lambda: services.cache.stats().live, "the subscription")
    counts = counted(services, monkeypatch, "counts"), counted(elsewhere, monkeypatch, "counts")

    def queued(client: httpx.Client) -> float:
        [line] = [line for line in client.get("/metrics").text.splitlines() if line.startswith('haul_jobs{state="queued"}')]
        return float(line.split()[1])

    with served(elsewhere) as beside:
        beside.get("/v1/queue")
        until(lambda: elsewhere.cache.stats().live, "the subscription")
        counts[0].clear(), counts[1].clear()
        begun = time.monotonic()
        for _ in range(10):
            assert queued(http) == queued(beside) == 0
        assert len(counts[0]) + len(counts[1]) <= 1 + (time.monotonic() - begun) / 1.6
        http.post("/v1/jobs", json={"uri": URI, "user": "u"})
        assert stale_s(lambda: queued(http) == queued(beside) == 1) < 2.5


def test_queue_engines_and_limits_are_no_older_than_a_second_whoever_wrote(
    services: Services, elsewhere: Services, http: httpx.Client
) -> None:
    from worker.jobs.model import Request, Source, SourceKind

    def seen() -> tuple[int, int]:
        return http.get("/v1/queue").json()["jobs"]["queued"], http.get("/v1/limits/u").json()["queued"]

    http.get("/v1/queue")
    until(lambda: services.cache.stats().live, "the subscription")
    for number in range(1, 3):
        assert seen() == (number - 1, number - 1)
        pipeline.accept(elsewhere, [Request(Source(SourceKind.HTTP, URI), "u", key=f"{number}")])
        assert stale_s(lambda number=number: seen() == (number, number)) < 1.5
        assert all(engine["name"] for engine in http.get("/v1/engines").json()["engines"])
