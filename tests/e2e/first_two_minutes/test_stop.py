"""`haul up` and the roles end when they are told to, and lose nothing."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import pytest
import requests

from tests.e2e.first_two_minutes.downloads import ON_THE_WAY_BYTES, SLOW
from tests.e2e.haul import Haul, processes_of, stack_up
from tests.e2e.stack import Stack, eventually
from tests.origin import Origin
from worker.cli.servers import free_port


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_drains_and_the_next_get_finishes_its_jobs(haul: Haul, origin: Origin, number: signal.Signals) -> None:
    path = f"/file/drained-{number.name}.bin"
    with stack_up(haul) as process:
        haul.json("add", origin.url(f"{path}?{SLOW}&seed=30"), "--key", "mine", "--out", str(haul.out))
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come")
        process.send_signal(number)
        assert process.wait(30) == 0
    haul.leaves_nothing_running()

    result = haul.get(origin.url(f"{path}?{SLOW}&seed=30"), "--key", "mine")
    assert result.returncode == 0, result.stderr + haul.log()
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES


def test_a_second_signal_stops_at_once_and_leaves_no_server(haul: Haul, origin: Origin) -> None:
    with stack_up(haul) as process:
        haul.json("add", origin.url("hang/for-ever"))
        process.terminate()
        process.terminate()
        with contextlib.suppress(ProcessLookupError):
            while process.poll() is None:
                process.terminate()
                time.sleep(0.02)
    eventually(lambda: not processes_of(haul.data), "the servers end", seen=lambda: processes_of(haul.data))


def test_a_get_whose_stack_is_stopped_starts_one_of_its_own_and_goes_on(haul: Haul, origin: Origin) -> None:
    path = "/file/moved-on.bin"
    with stack_up(haul) as process, haul.start("get", origin.url(f"{path}?{SLOW}&seed=31"), "--out", str(haul.out)) as get:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come")
        process.terminate()
        assert process.wait(30) == 0
        result = haul.end(get)

    assert (result.returncode, result.stdout) == (0, f"{haul.out}/moved-on.bin  2.9 MiB\n"), result.stderr + haul.log()
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES
    haul.leaves_nothing_running()


def test_supervise_looks_after_the_engine_until_it_is_told_to_stop(haul: Haul, tmp_path: Path) -> None:
    with Stack(tmp_path / "servers") as servers:
        haul.environment |= servers.environment()
        with haul.start("supervise") as process:
            eventually(lambda: servers.owner() == process.pid, "it looks after the engine")
            process.terminate()
            assert haul.end(process, 20).returncode == 0
        lease = servers.services.store.acquire_lease("engine:aria2", "next", 1.0)
        assert lease is not None, "the lease is free at once"


def test_api_answers_until_it_is_told_to_stop(haul: Haul, tmp_path: Path) -> None:
    with Stack(tmp_path / "servers") as servers:
        port = free_port()
        haul.environment |= {**servers.environment(), "HAUL_API_PORT": str(port)}
        with haul.start("api") as process:

            def answer() -> int:
                with contextlib.suppress(requests.ConnectionError):
                    return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code
                assert process.poll() is None
                return 0

            assert eventually(answer, "it answers") == 200
            process.send_signal(signal.SIGINT)
            assert haul.end(process, 20).returncode == 0
