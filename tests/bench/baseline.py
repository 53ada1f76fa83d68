"""What a capture costs a running stack: its time, its processor time, and the answers of the API while it measures."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import stack
from worker.maintenance.baseline.api import Api, address
from worker.maintenance.baseline.capture import capture
from worker.maintenance.baseline.document import HAND
from worker.ports import Services

#: Between two requests, so that the one who watches is no load himself.
PACE_S = 0.02
ALONE_S = 6.0


def baseline(directory: Path, rounds: int) -> dict[str, Any]:
    """A capture beside a viewer of the API: at most 10 s, half a core, and what the viewer waits longer."""
    seconds, cores, slower = [], [], []
    with stack.stack(directory / "data", slots=32) as (process, services):
        for _ in range(rounds):
            alone = _answers(services, threading.Event(), ALONE_S)
            ours, theirs, begun = time.thread_time(), _cpu_s(process.pid), time.monotonic()
            ended, beside = threading.Event(), list[float]()
            viewer = threading.Thread(target=lambda e=ended, b=beside: b.extend(_answers(services, e, 60.0)))  # type: ignore[misc]
            viewer.start()
            capture(services, source=HAND)
            seconds.append(time.monotonic() - begun)
            cores.append((time.thread_time() - ours + _cpu_s(process.pid) - theirs) / seconds[-1])
            ended.set()
            viewer.join()
            slower.append(median(beside) / median(alone))
    return {"seconds": median(seconds), "limit_s": 10.0, "core_share": median(cores), "limit_share": 0.5, "viewer_ratio": slower}


def _answers(services: Services, ended: threading.Event, for_s: float) -> list[float]:
    """Seconds of each answer about the newest jobs."""
    deadline = time.monotonic() + stack.READY_S
    while (url := address(services.settings)) is None and time.monotonic() < deadline:
        time.sleep(PACE_S)  # the API is the last to come up
    assert url is not None
    api, until, took = Api(url), time.monotonic() + for_s, []
    while time.monotonic() < until and not ended.wait(PACE_S):
        begun = time.perf_counter()
        api.jobs()
        took.append(time.perf_counter() - begun)
    api.close()
    return took


def _cpu_s(pid: int) -> float:
    """Of the stack with all its servers."""
    return sum(stack.cpu_s(each) for each in stack.tree(pid))
