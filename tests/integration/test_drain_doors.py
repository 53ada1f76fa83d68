"""Draining an engine from outside: by HTTP and on the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.integration.doors import DEADLINE_S, NamedEngine, services_on, snapshot, until
from worker import cli
from worker.api.schemas import EngineList
from worker.api.server import serve
from worker.cli.servers import Server
from worker.jobs.model import Request, Source, SourceKind, new_job
from worker.jobs.states import State
from worker.jobs.transfer import Transfer
from worker.ports import Change, Services

KEY = "k" * 32


@dataclass
class Place:
    """An API with a key, and the environment of a command line beside it."""

    services: Services
    http: httpx.Client
    environment: dict[str, str]
    patched: pytest.MonkeyPatch
    captured: pytest.CaptureFixture[str]

    def haul(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in this process, as one of its own: it builds services anew."""
        for name, value in self.environment.items():
            self.patched.setenv(name, value)
        self.patched.setattr(sys, "argv", ["haul", "engines", *words])
        self.captured.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.captured.readouterr()
        return subprocess.CompletedProcess(words, int(ended.value.code or 0), out, err)

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "worker.cli", "engines", *words]

    def downloads(self, engine: str = "aria2") -> str:
        """A job that this engine downloads, as its record says."""
        job = new_job(Request(Source(SourceKind.HTTP, "https://host/x"), "u"), 1.0)
        job = job.moved(State.SUBMITTING, 1.0, "admitted", transfer=Transfer(job.id, engine, 1, "/nowhere", 0.0))
        self.services.store.insert([job.moved(State.DOWNLOADING, 1.0, "it has it")])
        return job.id


@pytest.fixture
def place(
    valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Place]:
    environment = {
        "HAUL_DATA_DIR": str(tmp_path),
        "HAUL_REDIS_URL": valkey.url,
        "HAUL_KEY_PREFIX": key_prefix,
        "HAUL_ENGINES": "aria2+http://127.0.0.1:1/jsonrpc,aria2+http://127.0.0.1:1/jsonrpc?name=second",
        "PATH": "/usr/bin:/bin",
    }
    with services_on(valkey.url, key_prefix, tmp_path, api_keys=KEY) as services:
        services.engines["second"] = NamedEngine("second")  # type: ignore[index]
        api = serve(services, host="127.0.0.1", port=0)
        api.start()
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=api.url, timeout=DEADLINE_S, trust_env=False, headers=headers) as http:
            yield Place(services, http, environment, monkeypatch, capfd)
        api.stop()


def test_an_engine_is_drained_and_taken_back_by_http(place: Place) -> None:
    place.services.coordinator.put_snapshot(snapshot())
    place.downloads()
    answer = place.http.post("/v1/engines/aria2/drain?move=true")
    assert answer.status_code == 200
    [engine] = EngineList.model_validate(answer.json(), extra="forbid").engines
    assert (engine.name, engine.state, engine.move, engine.live, engine.up) == ("aria2", "draining", True, 1, True)
    states = {engine["name"]: engine["state"] for engine in place.http.get("/v1/engines").json()["engines"]}
    assert states == {"aria2": "draining", "second": "away"}
    [engine] = EngineList.model_validate(place.http.post("/v1/engines/aria2/undrain").json(), extra="forbid").engines
    assert (engine.state, engine.move) == ("up", False)
    assert place.services.store.drains() == {}


def test_who_has_no_key_drains_nothing(place: Place) -> None:
    for action in ("drain", "undrain"):
        answer = httpx.post(f"{place.http.base_url}/v1/engines/aria2/{action}", trust_env=False)
        assert answer.status_code == 401
    assert place.services.store.drains() == {}


def test_what_is_wrong_with_a_request_is_said_and_changes_nothing(place: Place) -> None:
    unknown = place.http.post("/v1/engines/third/drain")
    assert unknown.status_code == 404
    assert (unknown.json()["field"], unknown.json()["fix"]) == ("engine", "one of: aria2, second")
    assert place.http.post("/v1/engines/aria2/drain?moev=true").status_code == 422
    assert place.services.store.drains() == {}


def test_both_routes_are_in_the_document(place: Place) -> None:
    paths = place.http.get("/openapi.json").json()["paths"]
    assert {"/v1/engines/{name}/drain", "/v1/engines/{name}/undrain"} <= set(paths)


@contextmanager
def looked_at(place: Place, *names: str) -> Iterator[None]:
    """A supervisor shows these engines inside, for as long as it takes."""
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.2):
            for name in names:
                place.services.coordinator.put_snapshot(snapshot(name))

    thread = threading.Thread(target=show)
    thread.start()
    until(lambda: set(names) <= set(place.services.coordinator.snapshots()), "they are shown")
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_an_engine_is_drained_and_taken_back_on_the_command_line(place: Place) -> None:
    place.downloads("second")
    drained = place.haul("drain", "second", "--json")
    assert drained.returncode == 0, drained.stderr
    assert {name: json.loads(drained.stdout)[name] for name in ("name", "state", "running")} == {
        "name": "second",
        "state": "draining",
        "running": 1,
    }
    with looked_at(place, "aria2", "second"):
        lines = place.haul("list").stdout.splitlines()
    assert lines[0].startswith("aria2        up ")
    assert lines[1].startswith("second       draining  1/32 slots")
    assert "weight 1" in lines[0]
    assert place.haul("undrain", "second").stdout == "second is given work\n"
    assert place.services.store.drains() == {}


def test_an_unknown_engine_is_bad_input_on_the_command_line(place: Place) -> None:
    ended = place.haul("drain", "third")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "there is no engine 'third' (one of: aria2, second)" in ended.stderr


def test_wait_returns_when_nothing_runs_there_any_more(place: Place) -> None:
    id = place.downloads()
    waiting = subprocess.Popen(
        place.command("drain", "aria2", "--wait"), env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "haul: aria2: 1 still runs\n"
    job = place.services.store.get([id])[id]
    place.services.store.apply([Change(job, job.moved(State.FAILED, 2.0, "over"))])
    out, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, out) == (0, "aria2 is drained: nothing runs there\n")


def test_ctrl_c_leaves_it_draining_and_says_so(place: Place) -> None:
    place.downloads()
    waiting = subprocess.Popen(
        place.command("drain", "aria2", "--wait"), env=place.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert waiting.stderr is not None
    assert "1 still runs" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "aria2 stays draining; `haul engines undrain aria2` gives it work again" in said
    until(lambda: set(place.services.store.drains()) == {"aria2"}, "it is drained")


def test_health_finds_nothing_wrong_with_a_drained_engine_that_is_away(place: Place) -> None:
    with looked_at(place, "second"):
        assert place.http.get("/ready").status_code == 503
        place.haul("drain", "aria2")
        assert place.http.get("/ready").status_code == 200
