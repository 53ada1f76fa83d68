"""Shutdown.

Intake stops, steps end, batches are flushed, leases are let go. SIGTERM drains in 30 s; a second one stops at once and loses
nothing. It holds on every pool of Celery and for every role.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path

import pytest
import requests

from tests.e2e.processes import Program
from tests.e2e.stack import SERVICES, Stack, digest, eventually, sha256
from tests.faults.apart import StoreApart
from tests.faults.catalogue import fault
from tests.faults.load import Load, children, processes_of
from tests.faults.outage import Api
from tests.origin import Origin
from worker.cli.lock import running
from worker.cli.servers import free_port
from worker.jobs.states import State
from worker.limits import DRAIN_S, LEASE_S
from worker.store import open_store

pytestmark = pytest.mark.usefixtures("nothing_is_left")

SIZE = 200_000
RATE = 300_000
#: What a busy machine may add to a time that is promised.
BUSY_S = 20.0
#: Of two workers each takes some of so many jobs.
ASKED_MAX = 50
#: A process that is told to stop at once is gone in this time, on the busiest machine; a drain lets loops end for twenty seconds.
AT_ONCE_S = 10.0
#: From the end of an owner that let go until another looks after the engine; the lease itself would last for 30 s.
HANDOVER_S = LEASE_S / 3
#: What one that died had claimed is free again, its lease is over, and the work is done.
RECOVERY_S = LEASE_S + 40

WORKER = ("celery", "-A", "worker", "worker", "--without-gossip", "--without-mingle")
ROLES = {
    "prefork": (*WORKER, "-P", "prefork", "-c", "2"),
    "threads": (*WORKER, "-P", "threads", "-c", "4", "--supervise"),
    "solo": (*WORKER, "-P", "solo", "--supervise"),
    "supervise": ("worker.cli", "supervise"),
}
#: What has to run beside a role so that jobs are done.
BESIDE = {"prefork": ("worker.cli", "supervise"), "supervise": (*WORKER, "-P", "threads", "-c", "4", "-n", "beside@%h")}


def start(stack: Stack, role: str, name: str, **environment: str) -> Program:
    """A process of this role; a Celery worker under this name."""
    named = ("-n", f"{name}@%h") if ROLES[role][0] == "celery" else ()
    return stack.run(*ROLES[role], *named, **environment)


def first_of(stack: Stack, role: str, **environment: str) -> Program:
    """The one that will be told to stop, at work, with what it needs beside it."""
    beside = stack.run(*BESIDE[role]) if role in BESIDE else None
    first = start(stack, role, "first", **environment)
    owner = beside if role == "prefork" else first
    assert owner is not None
    eventually(lambda: stack.owner() == owner.pid, "somebody looks after the engine", 60, stack.tail)
    return first


def standby_of(stack: Stack, role: str) -> Program:
    """Another of the same role, when it is up."""
    alive, probes = stack.directory / "second.alive", free_port()
    second = start(stack, role, "second", HAUL_ALIVE_PATH=str(alive), HAUL_METRICS_PORT=str(probes) if role == "supervise" else "0")
    eventually(alive.exists if role != "supervise" else lambda: answers(probes), "the other one is up", 60, stack.tail)
    return second


def answers(port: int) -> bool:
    """Whether what listens there is well."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok
    except requests.ConnectionError:
        return False


def in_the_middle_of_a_finish(stack: Stack) -> str:
    """A job whose place is written down and that is not moved there yet: the first that comes to the worker with a failpoint."""
    for n in range(ASKED_MAX):
        id = stack.ask(f"file/long-{n}.bin?size={SIZE}", "long")
        eventually(lambda: stack.job(id).result, "its place is written down", 60, stack.tail)  # noqa: B023
        if stack.job(id).state is State.FINISHING:
            return id
    raise AssertionError(f"the worker finished none of {ASKED_MAX}: {stack.tail()}")


def ended(process: Program, timeout_s: float) -> int:
    """The exit code of a process that ends in time."""
    eventually(lambda: process.ended() is not None, "it ends", timeout_s)
    code = process.ended()
    assert code is not None
    return code


def heard(stack: Stack, process: Program, says_so: bool) -> bool:
    """Whether a process that runs has taken SIGTERM, so that another one counts; Celery's say so."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
    return not any(bits & 1 << (signal.SIGTERM - 1) for bits in pending) and (not says_so or "haul: draining" in stack.tail())


@fault(
    "SIGTERM, or Ctrl-C, while jobs keep coming, downloads run and a finish is under way",
    provoked="the signal to a worker of each pool and to a supervisor, with another one waiting",
    holds="exit code 0 within 30 s; the finish it was in is done; another looks after the engine within seconds, not after the lease; "
    "no job is lost, fetched twice or told of twice",
)
@pytest.mark.parametrize(
    ("role", "number"),
    [
        *((role, signal.SIGTERM) for role in ROLES),
        ("threads", signal.SIGINT),
        ("supervise", signal.SIGINT),
    ],
)
def test_a_process_that_is_told_to_stop_drains_in_time_and_hands_over_at_once(stack: Stack, role: str, number: signal.Signals) -> None:
    point = "" if role == "supervise" else "finish.intended:slow:1"
    first = first_of(stack, role, HAUL_FAILPOINT=point)
    second = standby_of(stack, role)
    downloading = stack.ask(f"file/running?size={RATE * 8}&rate={RATE}", "running")
    stack.until(downloading, "downloading")
    finishing = in_the_middle_of_a_finish(stack) if point else None
    with Load(stack, 15) as load:
        load.until(30)

        begun = time.monotonic()
        first.signal(number)
        code = ended(first, DRAIN_S + BUSY_S)
        took = time.monotonic() - begun
        assert code == 0, stack.tail()
        assert took < DRAIN_S
        if finishing:
            assert stack.job(finishing).state is State.DONE, "what it was finishing is done"
        if role != "prefork":
            eventually(lambda: stack.owner() == second.pid, "the other one takes over", HANDOVER_S, stack.tail)
            print(f"{role}: drained in {took:.1f} s, taken over after {time.monotonic() - begun:.1f} s")
        load.until(60)
    load.check(timeout_s=60)
    stack.check_delivered(downloading, digest(RATE * 8))
    assert stack.origin.bytes_served["/file/running"] == RATE * 8


@fault(
    "A finish that takes longer than the drain",
    provoked="a finish that stands still for a minute, then SIGTERM to a worker of each pool",
    holds="the process, and each of its pool, is gone after 30 s; another worker finishes the job, once, to the same place",
)
@pytest.mark.parametrize("role", ["prefork", "threads"])
def test_a_finish_that_outlasts_the_drain_is_resumed_by_another_worker(stack: Stack, role: str) -> None:
    first = first_of(stack, role, HAUL_FAILPOINT="finish.intended:hang:1")
    id = in_the_middle_of_a_finish(stack)
    place = stack.job(id).result
    second, pool = standby_of(stack, role), children(first.pid)

    begun = time.monotonic()
    first.signal(signal.SIGTERM)
    if role != "prefork":
        eventually(lambda: stack.owner() == second.pid, "the other one takes over while this one waits", HANDOVER_S, stack.tail)
    code = ended(first, DRAIN_S + BUSY_S)
    took = time.monotonic() - begun
    assert code == 1
    assert took > DRAIN_S - 1, "it waited as long as it may"
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pool), "its pool is gone with it", AT_ONCE_S)

    job = stack.until(id, "done", timeout_s=RECOVERY_S)
    assert job.result == place
    stack.check_delivered(id, digest(SIZE), "long-0.bin")
    assert stack.origin.bytes_served["/file/long-0.bin"] == SIZE
    assert stack.told(id) == ["job.queued", "job.started", "job.completed"]


@fault(
    "A second SIGTERM while the first one drains",
    provoked="a finish, or a look at an engine, that stands still for a minute; then two signals",
    holds="the process is gone within 2 s of the second; the next one ends every job once",
)
@pytest.mark.parametrize("role", list(ROLES))
def test_a_second_signal_stops_at_once_and_loses_nothing(stack: Stack, role: str) -> None:
    point = "start.submitted" if role == "supervise" else "finish.intended"
    first = first_of(stack, role, HAUL_FAILPOINT=f"{point}:hang:1")
    id = stack.ask(f"file/long.bin?size={SIZE}", "long")
    stack.until_bytes("/file/long.bin", SIZE - 1, timeout_s=60)
    stack.until(id, "submitting" if role == "supervise" else "finishing")
    slow = stack.ask(f"file/slow?size={RATE * 5}&rate={RATE}", "slow")
    with Load(stack, 15) as load:
        load.until(20)
        pool = children(first.pid)
        first.signal(signal.SIGTERM)
        eventually(lambda: heard(stack, first, says_so=role != "supervise"), "it has heard of it", BUSY_S)
        assert first.ended() is None, "it drains"

        begun = time.monotonic()
        first.signal(signal.SIGTERM)
        code = ended(first, BUSY_S)
        took = time.monotonic() - begun
        assert code == 1
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pool), "its pool is gone with it", BUSY_S)
        print(f"{role}: gone {took:.2f} s after the second signal")
        assert took < AT_ONCE_S
        start(stack, role, "second")
    load.check(RECOVERY_S)
    for each, size, path in ((id, SIZE, "long.bin"), (slow, RATE * 5, "slow")):
        stack.until(each, "done", timeout_s=RECOVERY_S)
        stack.check_delivered(each, digest(size))
        assert stack.origin.bytes_served[f"/file/{path}"] == size


@fault(
    "A supervisor is told to stop between two writes of its downloads' progress",
    provoked="SIGTERM when the last write is seconds old, and nobody takes over",
    holds="the record tells of what was on the disk when it ended",
)
def test_the_last_progress_is_stored_when_a_supervisor_stops(stack: Stack) -> None:
    first = first_of(stack, "supervise")
    id = stack.ask(f"file/slow?size={RATE * 60}&rate={RATE}", "slow")
    stored = eventually(lambda: stack.job(id).progress.done, "some progress is stored", 60, stack.tail)
    eventually(lambda: stack.job(id).progress.done > stored, "more of it is", 20, stack.tail)
    stored = stack.job(id).progress.done
    stack.until_bytes("/file/slow", stored + RATE * 7 // 2)
    assert stack.job(id).progress.done == stored, "the next write is not yet due"
    served = stack.origin.bytes_served["/file/slow"]
    first.signal(signal.SIGTERM)
    assert ended(first, DRAIN_S) == 0
    assert stack.job(id).progress.done >= served - RATE


@fault(
    "SIGTERM, then a second one, to the API while callers ask for jobs and others watch",
    provoked="callers that never stop asking, an open event stream, and requests that wait for a store that is locked",
    holds="the first signal ends it with code 0 within 30 s, the second one within 2 s; each job that was answered is recorded and done",
)
@pytest.mark.parametrize("signals", [1, 2])
def test_an_api_that_is_told_to_stop_has_recorded_all_it_answered(stack: Stack, signals: int) -> None:
    with ExitStack() as held:
        store = held.enter_context(StoreApart(stack))
        api = Api(stack, **store.environment)
        stack.run("worker.cli", "supervise")
        stack.run(*BESIDE["supervise"])
        assert held.enter_context(requests.get(f"{api.url}/v1/events", stream=True, timeout=30)).ok
        pool = held.enter_context(ThreadPoolExecutor(5))
        callers = [pool.submit(ask_on, api, stack, n) for n in range(5)]
        eventually(lambda: stack.services.store.counts(), "jobs are asked for", 60, stack.tail)
        with store.away() if signals == 2 else nullcontext():
            begun = time.monotonic()
            api.process.signal(signal.SIGTERM)
            if signals == 2:
                eventually(lambda: heard(stack, api.process, says_so=False), "it has heard of it", BUSY_S)
                begun = time.monotonic()
                api.process.signal(signal.SIGTERM)
            code = ended(api.process, DRAIN_S)
            took = time.monotonic() - begun
        answered = [id for caller in callers for id in caller.result()]
    print(f"gone {took:.2f} s after signal {signals}; {len(answered)} jobs were answered")
    assert code == signals - 1
    assert took < (AT_ONCE_S if signals == 2 else DRAIN_S)
    jobs = stack.until_all(answered, timeout_s=60)
    assert [sha256(job.result.path) for job in jobs if job.result] == [digest(1000)] * len(jobs)


def ask_on(api: Api, stack: Stack, caller: int) -> list[str]:
    """Ask for one job after the other until the API is gone; those it answered."""
    answered: list[str] = []
    while True:
        wish = {"uri": stack.origin.url(f"file/{caller}-{len(answered)}?size=1000"), "user": f"caller-{caller}"}
        try:
            answer = api.ask("/v1/jobs", wish)
        except requests.RequestException:
            return answered
        if answer.status_code == 201:
            answered.append(answer.json()["id"])
        else:
            assert answer.status_code == 503, answer.text


@fault(
    "A second Ctrl-C to `haul up` in the middle of a finish",
    provoked="a finish that stands still for a minute, and two signals",
    holds="the stack and its servers are gone within seconds; the next `haul up` ends the job, which is fetched once",
)
@pytest.mark.skipif(SERVICES, reason="about the embedded stack, which has SQLite and servers of its own")
def test_a_stack_that_is_told_twice_to_stop_goes_on_where_it_was(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with Origin() as origin, ExitStack() as held:
        first = up(held, data, HAUL_FAILPOINT="finish.intended:hang:1")
        store = held.enter_context(closing(open_store(f"sqlite:///{data}/haul.db")))
        stack = running(data)
        assert stack is not None
        answer = requests.post(f"{stack.api_url}/v1/jobs", json={"uri": origin.url(f"file/x?size={SIZE}"), "user": "u"}, timeout=20)
        id = answer.json()["id"]
        eventually(lambda: store.get([id])[id].result, "its finish has begun", 60)

        first.send_signal(signal.SIGINT)
        eventually(lambda: "haul: draining" in (data / "up.log").read_text(), "it drains", BUSY_S)
        begun = time.monotonic()
        first.send_signal(signal.SIGINT)
        assert first.wait(BUSY_S) == 1
        took = time.monotonic() - begun
        assert took < AT_ONCE_S
        eventually(lambda: not processes_of(data), "its servers end", 2 * BUSY_S, lambda: processes_of(data))

        second = up(held, data)
        eventually(lambda: store.get([id])[id].state is State.DONE, "the job is done", RECOVERY_S)
        job = store.get([id])[id]
        assert job.result is not None
        assert sha256(job.result.path) == digest(SIZE)
        assert origin.bytes_served["/file/x"] == SIZE
        second.send_signal(signal.SIGINT)
        assert second.wait(DRAIN_S) == 0


def up(held: ExitStack, data: Path, **environment: str) -> subprocess.Popen[bytes]:
    """`haul up` on a directory, when its API answers."""
    data.mkdir(exist_ok=True)
    ours = {"HAUL_DATA_DIR": str(data), "HAUL_API_PORT": "0", "HAUL_QBITTORRENT": "off", "HAUL_ALLOW_NETWORKS": "127.0.0.0/8"}
    with (data / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "worker.cli", "up"], env={**os.environ, **ours, **environment}, stdout=log, stderr=log
        )
    held.callback(process.wait)
    held.callback(process.kill)
    eventually(lambda: (stack := running(data)) and stack.pid == process.pid and stack.api_url, "the stack is up", 60)
    return process
