"""What is asked for most is read before it is asked for again: after a restart, by the clock, by command; gently, and with its effect."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.integration.doors import services_on, until
from tests.integration.test_cached_reads import URI, counted, served
from worker.answers import Answers
from worker.cli.app import app
from worker.cli.servers import Server
from worker.coordination.cache.popular import DAY_S, Told
from worker.jobs.errors import Transient
from worker.maintenance import warming
from worker.maintenance.warming import SLOW_S, SLOW_TIMES, WINDOW_S, Warmer, run, warm
from worker.ports import Kind, Services

#: Ends in no test, so that what was read before is found.
LASTING = Kind("job", 60.0, negative_s=60.0, shared=False)

MakeServices = Callable[[], Services]


@pytest.fixture
def process(valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeServices]:
    """Makes the services of one more process on the same records."""
    monkeypatch.setattr("worker.reads.JOB", LASTING)
    with ExitStack() as stack:

        def make() -> Services:
            here: AbstractContextManager[Services] = services_on(valkey.url, key_prefix, tmp_path)
            services = stack.enter_context(here)
            services.cache.get(Kind("any", 60.0, shared=False), "x", lambda: 1)
            until(lambda: services.cache.stats().live, "the subscription")
            return services

        yield make


def asked_for(services: Services, counts: dict[str, int], reads: int = 0, found: int = 0) -> None:
    """As processes tell the server: what was asked lately, and how often."""
    now = time.time()
    services.cache._shared.tell_asked(int(now // DAY_S), int(now // 60) - 1, Told(reads, found, counts))  # type: ignore[attr-defined]


def some_ids(services: Services, count: int) -> list[str]:
    from worker import pipeline
    from worker.jobs.model import Request, Source, SourceKind

    answers = pipeline.accept(services, [Request(Source(SourceKind.HTTP, URI), "u", key=f"{n}") for n in range(count)])
    return [answer.job.id for answer in answers if not isinstance(answer, Exception)]


def test_a_process_that_starts_reads_what_was_asked_most_before_anybody_asks_it(
    process: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = process()
    ids = some_ids(before, 20)
    hot = ids[:3]
    answers = Answers(before)
    for number in range(300):
        answers.job(hot[number % 3])
        answers.job(ids[number % 20])
    before.cache.close()  # a restart: it tells what it knows at its end
    after = process()
    gets = counted(after, monkeypatch, "get")
    with served(after) as http:
        until(lambda: {*hot} <= {id for [named] in gets for id in named}, "the hot ones are read")
        until(lambda: after.cache.stats().kinds["job"].fills >= 3, "and kept")
        gets.clear()
        for id in hot:
            assert http.get(f"/v1/jobs/{id}").json()["id"] == id
        assert not {*hot} & {id for [named] in gets for id in named}, "nothing of them was left to be read"


def test_pages_limits_and_the_overview_are_warmed_as_viewers_read_them(process: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind in (("JOBS", "jobs"), ("LIMITS", "limits"), ("OVERVIEW", "overview")):
        monkeypatch.setattr(f"worker.reads.{name}", Kind(kind, 60.0))
    services = process()
    some_ids(services, 2)

    def read(http: httpx.Client) -> list[Any]:
        asked: list[tuple[str, dict[str, Any]]] = [
            ("/v1/jobs", {"user": "u", "state": ["queued", "done"], "limit": 7}),
            ("/v1/jobs", {}),
            ("/v1/limits/u", {"tier": "free"}),
            ("/v1/queue", {}),
        ]
        return [http.get(path, params=params).json() for path, params in asked]

    with served(services) as http:
        for _ in range(60):
            first = read(http)
        services.cache._tell()  # type: ignore[attr-defined]
        services.cache.clear()
        assert warm(services).reads == 4
        kinds = services.cache.stats().kinds
        fills = {name: kinds[name].fills for name in ("jobs", "limits", "overview")}
        assert read(http)[0]["jobs"] == first[0]["jobs"]
        kinds = services.cache.stats().kinds
        assert {name: kinds[name].fills for name in fills} == fills


def test_what_warming_reads_does_not_count_as_asked(process: MakeServices) -> None:
    services = process()
    [id] = some_ids(services, 1)
    asked_for(services, {json.dumps(["job", [id]], separators=(",", ":")): 5}, reads=10, found=5)
    before = services.cache.hottest(5), services.cache.asked(0, time.time() + 60)
    assert warm(services).reads == 1
    services.cache._tell()  # type: ignore[attr-defined]
    assert (services.cache.hottest(5), services.cache.asked(0, time.time() + 60)) == before
    assert before[1].reads == 10


def test_a_slow_store_is_left_alone_for_longer_and_the_whole_has_an_end(process: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    services = process()
    ids = some_ids(services, 30)
    asked_for(services, {json.dumps(["job", [id]], separators=(",", ":")): 40 - number for number, id in enumerate(ids)})
    real, rests, slow = services.store.get, list[float](), [False]

    def get(named: Any) -> Any:
        time.sleep(2 * SLOW_S if slow[0] else 0.001)
        return real(named)

    monkeypatch.setattr(services.store, "get", get)
    assert warm(services, rest=rests.append).reads == 30
    assert len([rest for rest in rests if rest < SLOW_S]) > 25, "as long as the read took"
    services.cache.clear()
    slow[0] = True
    rests.clear()
    done = warm(services, rest=rests.append, within_s=12 * SLOW_S)
    assert 0 < done.reads < 10, "the time was over"
    assert done.slow == done.reads
    assert min(rests[:2]) > SLOW_S * SLOW_TIMES / 2
    assert warm(services, rest=lambda _: True).reads == 1, "who ends it ends it"


def test_without_a_store_it_ends_at_once_and_says_so(process: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    services = process()
    asked_for(services, {json.dumps(["job", [id]], separators=(",", ":")): 1 for id in some_ids(services, 20)})

    def away(*_: Any) -> Any:
        raise Transient("store", "is away")

    monkeypatch.setattr(services.store, "get", away)
    report = run(services)
    assert not report.ok
    assert "did not answer" in report.summary
    assert report.figures["failed_reads"] == 3


def test_what_cannot_be_read_any_more_is_passed_over(process: MakeServices) -> None:
    services = process()
    [id] = some_ids(services, 1)
    known = json.dumps(["job", [id]], separators=(",", ":"))
    asked_for(
        services,
        {
            "no JSON": 12,
            "{}": 11,
            '["jobs"]': 11,
            '["jobs",7]': 10,
            "7": 10,
            '["gone",[1]]': 9,
            '["jobs",["u",["no such state"],5,null]]': 8,
            '["limits",[]]': 7,
            known: 1,
        },
    )
    done = warm(services)
    assert (done.reads, done.failed) == (1, 2)


def test_a_run_tells_the_hit_rate_before_it_and_the_next_one_that_of_the_minutes_after_it(process: MakeServices) -> None:
    services = process()
    begun = time.time() // 60 * 60

    class Clock:
        now = begun

        def time(self) -> float:
            return self.now

    services = replace(services, clock=Clock())
    tell = services.cache._shared.tell_asked  # type: ignore[attr-defined]
    tell(0, int(begun // 60) - 2, Told(200, 80, {}))
    assert services.store.claim_run("warm", "first", "x")
    first = run(services)
    services.store.end_run("warm", "first", ok=first.ok, report=first.document())
    [ended] = services.store.runs("warm", 1)
    assert ended.ended_at is not None
    assert first.figures["hit_rate_before"] == 0.4
    assert first.details["last"] == {}
    tell(0, int(ended.ended_at // 60) + 2, Told(100, 90, {}))
    tell(0, int(ended.ended_at // 60) + 60, Told(100, 1, {}))
    Clock.now = ended.ended_at + WINDOW_S - 1
    assert run(services).details["last"] == {}, "the minutes are not over"
    Clock.now = ended.ended_at + 86_400
    assert services.store.claim_run("warm", "second", "x"), "it runs, and is in the ledger itself"
    second = run(services)
    assert second.details["last"] == {"slot": "first", "reads": 0, "hit_rate_before": 0.4, "hit_rate_after": 0.9, "asked_after": 100}
    assert second.summary.endswith("the run before took the hit rate from 40% to 90%")
    assert json.loads(json.dumps(second.document())) == second.document()


def test_the_command_warms_what_the_processes_share_and_has_each_of_them_warm_itself(
    process: MakeServices, valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming, "CALLS_EVERY_S", 0.01)
    own = {"HAUL_REDIS_URL": valkey.url, "HAUL_KEY_PREFIX": key_prefix, "HAUL_DATA_DIR": str(tmp_path), "HAUL_ENGINES": ""}
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    services = process()
    [id] = some_ids(services, 1)
    with served(services) as http:
        until(lambda: services.cache.stats().live, "the subscription")
        assert http.get("/health").is_success
        asked_for(services, {json.dumps(["job", [id]], separators=(",", ":")): 5}, reads=4, found=3)
        answer = CliRunner().invoke(app, ["cache", "warm", "--json"])
        assert answer.exit_code == 0, answer.output
        said = json.loads(answer.stdout.splitlines()[-1])  # before it is the log of the API, which is in the same process here
        assert (said["ok"], said["figures"]["reads"], said["details"]["kinds"]) == (True, 1, {"job": 1})
        until(lambda: "job" in services.cache.stats().kinds and services.cache.stats().kinds["job"].fills >= 1, "the API's own read")
        shown = CliRunner().invoke(app, ["cache", "stats"]).stdout
        assert "75% of 4 reads were found" in shown
        assert f"asked most   job        {id}" in shown
        assert json.loads(CliRunner().invoke(app, ["cache", "stats", "--json"]).stdout)["hit_rate"] == 0.75
        assert "1 of the most asked reads" in CliRunner().invoke(app, ["cache", "warm"]).stdout


def test_a_warmer_ends_with_its_process_and_does_not_warm_at_every_call(process: MakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    services, warmed = process(), list[float]()
    monkeypatch.setattr(warming, "warm", lambda *_, **__: warmed.append(time.monotonic()) or warming.Warmed())
    warmer = Warmer(services)
    warmer.start()
    until(lambda: warmed, "the first one")
    for _ in range(5):
        services.cache.call_to_warm()
    assert services.cache.flush(5.0)
    warmer.stop()
    assert warmer._thread is not None
    assert not warmer._thread.is_alive()
    assert len(warmed) == 1
