"""The server itself: its port, its threads, its end, its documentation."""

from __future__ import annotations

import logging
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.api.caller import Stalling, served
from tests.integration.api.viewer import Viewer
from tests.integration.doors import DEADLINE_S, services_on
from worker.api.server import serve
from worker.cli.servers import Server
from worker.jobs.errors import Transient
from worker.ports import Services
from worker.settings import SettingsError


def test_the_documentation_is_served_and_lists_every_route(empty: tuple[httpx.Client, Services]) -> None:
    http, _ = empty
    assert http.get("/docs").status_code == 200
    paths = set(http.get("/openapi.json").json()["paths"])
    assert {"/v1/jobs", "/v1/jobs/{id}", "/v1/jobs/{id}/{action}", "/v1/events", "/v1/queue", "/health", "/metrics"} <= paths


def test_a_port_in_use_is_refused_before_anything_is_started(services: Services) -> None:
    with served(services) as (api, _):
        port = int(api.url.rpartition(":")[2])
        with pytest.raises(SettingsError, match=f"HAUL_API_PORT: port {port} is in use"):
            serve(services, host="127.0.0.1", port=port)


def test_a_server_that_is_only_made_keeps_the_port_and_gives_it_back(services: Services) -> None:
    first = serve(services, host="127.0.0.1", port=0)
    port = int(first.url.rpartition(":")[2])
    with pytest.raises(SettingsError, match="in use"):
        serve(services, host="127.0.0.1", port=port)
    first.stop()
    serve(services, host="127.0.0.1", port=port).stop()


def test_an_address_of_nobody_is_refused_by_name(valkey: Server, key_prefix: str, tmp_path: Path) -> None:
    with services_on(valkey.url, key_prefix, tmp_path, api_keys="k") as services:
        for host in ("192.0.2.1", "no such host"):
            with pytest.raises(SettingsError, match="HAUL_API_HOST"):
                serve(services, host=host, port=0)


def test_a_server_in_a_thread_touches_neither_signals_nor_logging(services: Services) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    logging_before = (list(logging.root.handlers), logging.root.level, logging.getLogger("uvicorn").handlers[:])
    urls: list[str] = []
    with served(services, ready=urls.append) as (api, http):
        assert http.get("/health").status_code == 200
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (list(logging.root.handlers), logging.root.level, logging.getLogger("uvicorn").handlers[:]) == logging_before
        assert urls == [api.url]


def test_stop_ends_the_event_streams_at_once_and_may_be_called_twice(services: Services) -> None:
    before = set(threading.enumerate())
    with served(services) as (api, http), Viewer(http) as viewer:
        viewer.place()
        began = time.monotonic()
        api.stop()
        assert all("data" not in frame for frame in viewer.frames()), "the stream ends, and not with an event"
        assert time.monotonic() - began < 10.0
        assert not {thread for thread in threading.enumerate() if thread.name == "api"} - before


def test_a_request_that_runs_is_finished_before_the_server_stops(services: Services) -> None:
    entered, leave = threading.Event(), threading.Event()

    class Slow(Stalling):
        def page(self, *args: Any) -> Any:
            entered.set()
            leave.wait(DEADLINE_S)
            return services.store.page(*args)

    slow: Any = Slow(services.store, set(), Transient("store", ""))
    with served(replace(services, store=slow)) as (api, http), ThreadPoolExecutor(2) as pool:
        answer = pool.submit(http.get, "/v1/jobs")
        assert entered.wait(DEADLINE_S)
        stopping = pool.submit(api.stop)
        leave.set()
        assert answer.result(DEADLINE_S).status_code == 200
        stopping.result(DEADLINE_S)
