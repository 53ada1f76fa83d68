"""Baselines over a real store, a real Valkey and the API served for real; and the command line over what is kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from tests.contract.store_jobs import some_jobs
from tests.integration.doors import NamedEngine, services_on, until
from tests.unit.captures import System
from worker.api.server import serve
from worker.cli.app import app
from worker.cli.servers import Server
from worker.coordination.bounds import Bounds
from worker.coordination.redis import RedisCoordinator
from worker.jobs.errors import Conflict, Rejected, Transient
from worker.maintenance.baseline import keep, probes, work
from worker.maintenance.baseline.capture import CLAIM, capture
from worker.maintenance.baseline.document import CLOCK, HAND, Capture
from worker.maintenance.baseline.figures import Figure
from worker.ports import Poll, Run, Services, Step
from worker.store import open_store
from worker.wiring import TaskNudger

NOWHERE = "redis://127.0.0.1:1/0"
KEY = "a-key-of-the-api"
#: Samples enough to see that there are figures.
quick = partial(capture, rounds=2)


class PolledEngine(NamedEngine):
    """An engine that answers at once, or not at all."""

    silent = False

    def poll(self) -> Poll:
        if self.silent:
            raise Transient("engine aria2", "no answer in time")
        return Poll("session", {}, None, 0, "aria2 1")


@pytest.fixture
def services(valkey: Server, key_prefix: str, tmp_path: Path) -> Iterator[Services]:
    with services_on(valkey.url, key_prefix, tmp_path, api_port=0, api_keys=KEY) as services:
        yield replace(services, engines={"aria2": PolledEngine()})  # type: ignore[dict-item]


def absent(made: Capture) -> dict[str, str]:
    return {name: figure.absent for name, figure in made.figures.items() if figure.absent is not None}


def test_a_capture_measures_store_redis_engine_and_machine_and_leaves_nothing_in_the_store(services: Services) -> None:
    jobs = some_jobs(5)
    services.store.insert(jobs)
    services.store.claim_run("backup", "1", "a")
    before = services.store.get([job.id for job in jobs]), services.store.runs(None, 99)
    made = quick(services, source=HAND)
    assert (services.store.get([job.id for job in jobs]), services.store.runs(None, 99)) == before
    for name in ("store.read_ms", "store.batch_write_ms", "store.batch_read_ms", "redis.ping_ms", "engine.aria2.rpc_ms"):
        assert made.figures[name].median > 0, name
        assert made.figures[name].n == 1
    assert made.figures["store.count_ms"].size == made.figures["queue.jobs"].median == 5
    assert made.figures["redis.connections"].median >= 1
    assert made.figures["machine.memory_used_bytes"].median > 0
    assert made.versions["store"].startswith("SQLite 3")  # type: ignore[union-attr]
    assert made.machine["store"] == "sqlite"
    assert json.loads(made.text)["schema"] == 1


def test_a_mongodb_is_measured_and_keeps_captures_as_an_sqlite_does(services: Services, mongo_url: str) -> None:
    settings = services.settings.model_copy(update={"store_url": SecretStr(mongo_url)})
    with closing(open_store(mongo_url)) as store:
        made = quick(replace(services, store=store, settings=settings), source=HAND)
        assert not [name for name in absent(made) if name.startswith(("store.", "queue.j"))]
        assert made.versions["store"].startswith("MongoDB ")  # type: ignore[union-attr]
        assert made.machine["store"] == "mongodb"
        keep.keep_in_store(made, store, "a")
        assert [each.document() for each in keep.kept(Path("/nowhere"), store, 9)] == [made.document()]
        assert {run.name for run in store.runs(None, 9)} == {keep.IN_STORE_HOURLY}
        keep.keep_daily(made, store, "a")
        assert [each.id for each in keep.daily(store, 9)] == [made.id]


def test_what_cannot_be_had_is_absent_with_its_reason(services: Services) -> None:
    told = absent(quick(services, source=HAND))
    assert told["api.jobs.p50_ms"] == "there is no API: the stack runs none, and HAUL_API_URL is not set"
    assert "sends no tasks" in told["queue.task_ms"]
    assert "no stack runs on this data directory" in told["processes.count"]
    assert "--tests" in told["tests.failed"]


def test_the_api_is_asked_with_its_key_where_it_really_is(services: Services) -> None:
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    try:
        found = replace(services, settings=services.settings.model_copy(update={"api_url": api.url}))
        made = quick(found, source=HAND)
        for route in ("health", "metrics", "jobs"):
            figures = [made.figures[f"api.{route}.{share}_ms"] for share in ("best", "p50", "p95", "p99")]
            assert [figure.absent for figure in figures] == [None] * 4
            assert 0 < figures[0].median <= figures[1].median <= figures[2].median
            assert figures[3].n == 30
        refused = replace(found, settings=found.settings.model_copy(update={"api_keys": ()}))
        assert absent(quick(refused, source=HAND))["api.jobs.p50_ms"] == "api: /v1/jobs?limit=20 was answered with 401"
    finally:
        api.stop()
    assert "does not answer: Connection refused" in absent(quick(found, source=HAND))["api.health.p50_ms"]


def test_without_redis_or_an_engine_the_rest_is_measured_all_the_same(services: Services) -> None:
    engine = PolledEngine()
    engine.silent = True
    with closing(RedisCoordinator(NOWHERE, bounds=Bounds(connect_s=0.2, answer_s=0.2))) as away:
        made = quick(replace(services, coordinator=away, engines={"aria2": engine}), source=HAND)  # type: ignore[dict-item]
    told = absent(made)
    assert told["engine.aria2.rpc_ms"] == "engine aria2: no answer in time"
    assert told["redis.ping_ms"].startswith("redis: ")
    assert "queue.waiting" in told
    assert made.figures["store.read_ms"].absent is None
    assert made.versions["redis"] is None


def test_one_capture_runs_at_a_time(services: Services) -> None:
    assert services.coordinator.claim(CLAIM, "another", 30)
    with pytest.raises(Conflict, match="another capture is under way"):
        quick(services, source=HAND)
    services.coordinator.unclaim(CLAIM, "another")
    quick(services, source=HAND)
    assert services.coordinator.claim(CLAIM, "another", 30), "it is given back at the end"


def test_scratch_lines_of_a_capture_that_was_killed_are_forgotten_by_the_next(services: Services) -> None:
    services.store.keep_runs([Run(probes.SCRATCH, f"dead {n}", "dead", 1.0, 1.0, True) for n in range(120)])
    quick(services, source=HAND)
    assert services.store.runs(None, 9) == []


def test_the_time_a_task_takes_to_begin_is_measured_and_no_nudge_is_lost(services: Services) -> None:
    sent: list[str] = []
    ended, coordinator = threading.Event(), services.coordinator

    def work() -> None:
        seen = 0
        while not ended.is_set():
            if len(sent) > seen:
                ended.wait(0.02)
                coordinator.looked(Step.NOTIFY)
                seen += 1
            ended.wait(0.001)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        made = quick(replace(services, nudger=TaskNudger(coordinator, sent.append, services.metrics)), source=CLOCK)
        figure = made.figures["queue.task_ms"]
        assert figure.absent is None
        assert figure.median >= 15
        until(lambda: coordinator.may_nudge(Step.NOTIFY), "the last nudge was looked after")
    finally:
        ended.set()
        thread.join()


def test_a_task_that_does_not_begin_is_no_figure(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "TASK_S", 0.05)
    made = quick(replace(services, nudger=TaskNudger(services.coordinator, lambda _: None, services.metrics)), source=CLOCK)
    assert absent(made)["queue.task_ms"] == "worker: no task began within 0.05 s"


class TestByTheClock:
    @pytest.fixture
    def system(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
        """Captures of a simulated system; `planted` slows figures of it down, each time or once."""
        system = System(1, between=0.01, within=0.02)
        planted: list[dict[str, float]] = []
        monkeypatch.setattr(work, "capture", lambda services, source: system.capture(planted.pop(0) if planted else None))
        return planted

    def test_it_is_kept_beside_the_data_and_in_the_store(self, services: Services, system: Any) -> None:
        for _ in range(3):
            assert work.run(services).ok
        where = services.settings.data_dir / ".metrics" / "baselines"
        ids = keep.ids(where)
        assert len(ids) == 3
        assert [run.slot for run in services.store.runs(keep.IN_STORE_HOURLY, 9)] == ids
        assert [each.id for each in keep.kept(where.parent / "lost", services.store, 9)] == ids, "another machine has them too"

    def test_a_regression_is_told_and_the_work_is_ok(self, services: Services, system: Any) -> None:
        for _ in range(7):
            work.run(services)
        system += [{"redis.ping_ms": 1.5}] * 2
        report = work.run(services)
        assert report.ok
        assert "1 worse: redis.ping_ms" in report.summary
        assert report.figures["regressions"] == 1
        assert [each["figure"] for each in report.details["worse"]] == ["redis.ping_ms"]
        assert len(json.dumps(report.document())) < 8_000
        system += [{"redis.ping_ms": 1.5}]
        assert work.run(services).figures["regressions"] == 0, "a second look did not show it"

    def test_a_directory_that_cannot_be_written_fails_the_run_and_the_store_has_it(self, services: Services, system: Any) -> None:
        (services.settings.data_dir / ".metrics").write_text("in the way")
        report = work.run(services)
        assert not report.ok
        assert "cannot be written" in report.summary
        assert len(services.store.runs(keep.IN_STORE_HOURLY, 9)) == 1

    def test_the_store_keeps_a_bounded_number(self, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keep, "HOURLY", 3)
        monkeypatch.setattr(keep, "DAILY", 2)
        for made in System(2).captures(100)[::-20]:
            for _ in range(2):
                keep.keep_in_store(made, services.store, "a")
                keep.keep_daily(made, services.store, "a")
        assert len(services.store.runs(keep.IN_STORE_HOURLY, 99)) == 3
        assert len(services.store.runs(keep.IN_STORE_DAILY, 99)) == 2


class TestCommands:
    @pytest.fixture
    def history(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Capture]:
        """Seven captures that are kept where no stack runs, newest first; the newest is slow at one thing."""
        for name in ("HAUL_REDIS_URL", "HAUL_ENGINES", "HAUL_STORE_URL", "HAUL_BASELINE_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HAUL_DATA_DIR", str(tmp_path))
        system = System(3, between=0.01, within=0.02)
        made = [*system.captures(6)[::-1], system.capture({"store.read_ms": 1.4})]
        for each in made[2:]:
            keep.keep_file(each, tmp_path / ".metrics" / "baselines")
        with closing(open_store(f"sqlite:///{tmp_path / 'haul.db'}")) as store:
            for each in made[:3]:
                keep.keep_in_store(each, store, "another machine")
        return made[::-1]

    def run(self, *words: str) -> tuple[int, str, str]:
        ended = CliRunner().invoke(app, ["baseline", *words])
        if isinstance(ended.exception, Rejected):
            return 2, "", str(ended.exception)
        assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
        return ended.exit_code, ended.stdout, ended.stderr

    def test_a_list_has_those_of_the_directory_and_of_the_store_once(self, history: list[Capture]) -> None:
        code, out, _ = self.run("list", "--json")
        assert code == 0
        assert [each["id"] for each in json.loads(out)["captures"]] == [each.id for each in history]
        assert len(self.run("list", "--limit", "2")[1].splitlines()) == 2

    def test_two_captures_are_compared_and_a_regression_is_exit_code_1(self, history: list[Capture], tmp_path: Path) -> None:
        newest, before, *_ = history
        code, out, _ = self.run("compare", before.id, "latest", "--json")
        assert code == 1
        assert json.loads(out)["regressions"] == ["store.read_ms"]
        code, out, _ = self.run("compare", newest.id, before.id)
        assert code == 0
        assert out.splitlines()[0].startswith("better   store.read_ms")
        assert "store.count_ms" in self.run("compare", newest.id, before.id, "--all")[1]
        file = tmp_path / ".metrics" / "baselines" / keep.LATEST
        assert self.run("compare", before.id[:-1], str(file))[0] == 1

    @pytest.mark.parametrize(
        ("name", "words"), [("1999", "no capture is named"), ("2", "is the beginning of 7 captures"), ("x.json", "cannot read")]
    )
    def test_a_name_that_is_none_or_several_is_a_wrong_call(self, history: list[Capture], name: str, words: str) -> None:
        code, _, error = self.run("compare", name, "latest")
        assert code == 2
        assert words in error

    def test_a_report_is_a_page_in_a_file(self, history: list[Capture], tmp_path: Path) -> None:
        code, out, _ = self.run("report", "--out", str(tmp_path / "pages" / "b.html"))
        assert code == 0
        page = Path(out.strip()).read_text()
        assert page.startswith("<!doctype html>")
        assert "store.read_ms" in page
        assert json.loads(self.run("report", "--json")[1])["captures"] == 7

    def test_a_capture_by_hand_takes_in_a_result_of_tests_and_is_kept(
        self, services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from worker.cli import connect
        from worker.maintenance.baseline import capture as module

        monkeypatch.setattr(connect, "connected", lambda: _lent(services))
        monkeypatch.setattr(module, "capture", quick)
        (tmp_path / "junit.xml").write_text('<testsuite><testcase name="a" time="1"/><testcase name="b"><failure/></testcase></testsuite>')
        code, out, _ = self.run("capture", "--tests", str(tmp_path / "junit.xml"), "--json")
        assert code == 0
        figures = json.loads(out)["figures"]
        assert (figures["tests.run"]["median"], figures["tests.failed"]["median"]) == (2, 1)
        assert keep.load(keep.directory(services.settings) / keep.LATEST).figures["tests.failed"] == Figure(1.0, 0.0, 1)
        code, out, error = self.run("capture")
        assert code == 0
        assert any(line.startswith("redis.ping_ms") and " ms " in line for line in out.splitlines())
        assert "kept as" in error
        code, out, error = self.run("compare")
        assert code == 0, "two captures are no history"
        assert "captures of this machine that are kept: 2; 4 are needed to judge by" in error


def _lent(services: Services) -> Any:
    from contextlib import nullcontext

    return nullcontext(services)
