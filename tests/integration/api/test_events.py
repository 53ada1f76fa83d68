"""The event stream, seen by its viewers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.caller import add, connected, problem, served
from tests.integration.api.viewer import Viewer, told
from tests.integration.doors import DEADLINE_S, services_on, until
from worker import pipeline
from worker.api import events
from worker.cli.servers import Server
from worker.jobs.errors import Transient
from worker.ports import Services, Step


def test_events_reach_a_viewer_as_they_happen(http: httpx.Client, services: Services) -> None:
    with Viewer(http) as viewer:
        assert viewer.answer.headers["content-type"].startswith("text/event-stream")
        viewer.place()
        began = time.monotonic()
        id = add(http).json()["id"]
        pipeline.run(services, Step.NOTIFY)
        [event] = viewer.events(1)
        assert (event["type"], event["job"], event["user"]) == ("job.queued", id, "ann")
        assert time.monotonic() - began < events.KEEP_ALIVE_S / 2


def test_a_viewer_who_comes_back_sees_what_it_missed(http: httpx.Client, services: Services) -> None:
    with Viewer(http) as viewer:
        viewer.place()
        services.coordinator.publish([told(1)])
        viewer.events(1)
        place = viewer.last_id
    services.coordinator.publish([told(n) for n in range(2, 600)])
    with Viewer(http, last=place) as viewer:
        assert [event["id"] for event in viewer.events(598)] == [f"job:{n}" for n in range(2, 600)]


def test_a_viewer_of_one_user_sees_only_theirs_and_its_place_moves_with_all(http: httpx.Client, services: Services) -> None:
    with Viewer(http, user="ann") as viewer:
        start = viewer.place()
        services.coordinator.publish([told(1, "bob"), told(2, "ann"), told(3, "bob")])
        assert [event["id"] for event in viewer.events(1)] == ["job:2"]
        services.coordinator.publish([told(4, "bob")])
        before = viewer.last_id
        next(frame for frame in viewer.frames() if viewer.last_id != before)
        assert viewer.last_id not in (before, start)


def test_what_comes_while_a_viewer_reads_is_told_at_once(services: Services) -> None:
    """The stream grows, and wakes everybody, after a viewer has looked and before it knows that there was nothing."""
    coordinator, woken = services.coordinator, threading.Event()

    class Slow:
        def read_events(self, after: str | None, limit: int, wait_s: float) -> Any:
            found = coordinator.read_events(after, limit, wait_s)
            if wait_s and found[0]:
                threading.Timer(0.3, woken.set).start()  # by then the answer has reached the loop
            elif after and not wait_s and not found[0] and not woken.is_set():
                coordinator.publish([told(1)])
                assert woken.wait(DEADLINE_S)
            return found

        def __getattr__(self, name: str) -> Any:
            return getattr(coordinator, name)

    with served(replace(services, coordinator=Slow())) as (_, http), Viewer(http) as viewer:  # type: ignore[arg-type]
        began = time.monotonic()
        assert [event["id"] for event in viewer.events(1)] == ["job:1"]
        assert time.monotonic() - began < events.KEEP_ALIVE_S / 2


def test_a_place_that_is_gone_is_told_and_reading_goes_on(http: httpx.Client, services: Services) -> None:
    services.coordinator.publish([told(1)])
    with Viewer(http, last="1-1") as viewer:
        [reset] = viewer.events(1)
        assert reset["type"] == "reset"
        assert reset["since"] < time.time()
        services.coordinator.publish([told(2)])
        assert viewer.events(1)[0]["id"] == "job:2"


def test_a_place_that_is_none_is_refused(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    problem(http.get("/v1/events", headers={"last-event-id": "nonsense"}), 422)
    problem(http.get("/v1/events?usr=ann"), 422, "usr")


def test_a_quiet_stream_is_kept_alive(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE_S", 0.05)
    with served(services) as (_, http), Viewer(http) as viewer:
        frames = viewer.frames()
        while viewer.comments < 2:
            next(frames)


def test_many_viewers_miss_nothing_while_the_stream_grows(http: httpx.Client, services: Services) -> None:
    def watch(_: int) -> list[str]:
        with Viewer(http) as viewer:
            viewer.place()
            watching.wait(DEADLINE_S)
            return [event["id"] for event in viewer.events(1_000)]

    watching = threading.Barrier(9)
    with ThreadPoolExecutor(8) as pool:
        seen = [pool.submit(watch, n) for n in range(8)]
        watching.wait(DEADLINE_S)
        for first in range(0, 1_000, 50):
            services.coordinator.publish([told(n) for n in range(first, first + 50)])
        for result in seen:
            assert result.result(DEADLINE_S) == [f"job:{n}" for n in range(1_000)]


def test_viewers_are_bounded_and_a_place_is_free_when_one_goes(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "VIEWERS_MAX", 2)
    with served(services) as (_, http):
        with Viewer(http) as one, Viewer(http) as other:
            one.place(), other.place()
            problem(http.get("/v1/events"), 503)

        def watched() -> bool:
            with Viewer(http) as viewer:
                return viewer.answer.status_code == 200

        until(watched, "a viewer that went is noticed")


def test_a_viewer_who_takes_nothing_loses_its_place(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEND_TIMEOUT_S", 0.3)
    monkeypatch.setattr(events, "VIEWERS_MAX", 1)
    with served(services) as (api, http), connected(api) as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stuck.recv(12) == b"HTTP/1.1 200"
        large = {**told(1), "text": "x" * 50_000}

        def free() -> bool:
            services.coordinator.publish([large] * 40)
            with Viewer(http) as viewer:
                return viewer.answer.status_code == 200

        until(free, "the place is free again")


def test_viewers_live_through_an_outage_of_redis(own_valkey: Server, key_prefix: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(events, "RETRY_S", 0.1)
    with services_on(own_valkey.url, key_prefix, tmp_path) as services, served(services) as (_, http), Viewer(http) as viewer:
        viewer.place()
        services.coordinator.publish([told(1)])
        viewer.events(1)
        own_valkey.stop()
        restarted = subprocess.Popen(own_valkey.process.args)
        try:
            until(lambda: answers(services.coordinator.ping), "the server is back")
            services.coordinator.publish([told(2)])
            assert viewer.events(1)[0]["id"] == "job:2"
        finally:
            restarted.kill()
            restarted.wait()


def answers(call: Callable[[], Any]) -> bool:
    with contextlib.suppress(Transient):
        call()
        return True
    return False
