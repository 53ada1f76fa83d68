"""What the benchmarks run on: `haul up` in a directory of its own, an origin in a process of its own, and bare aria2c."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from worker import wiring
from worker.cli.lock import running
from worker.cli.servers import find_aria2c
from worker.jobs.model import Job
from worker.jobs.requests import parse
from worker.pipeline import Accepted, accept
from worker.ports import Services
from worker.settings import load
from worker.stack import Stack

TICKS = os.sysconf("SC_CLK_TCK")
READY_S = 30.0


@contextmanager
def server(module: str, *arguments: str) -> Iterator[str]:
    """A server in a process of its own; the URL it prints first."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().rstrip("/")
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


@contextmanager
def stack(
    data_dir: Path, *, slots: int, module: str = "worker.cli", environment: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Services]]:
    """`haul up` on a directory, and services to talk to it.

    Args:
        module: what is run with `up`; the command line, or something round it.
        environment: further settings.
    """
    settings = {"HAUL_DATA_DIR": str(data_dir), "HAUL_SLOTS": str(slots), "HAUL_API_PORT": "0", **(environment or {})}
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", module, "up"], env={**os.environ, **settings}, stdout=log, stderr=log)
    try:
        own = {name.removeprefix("HAUL_").lower(): value for name, value in settings.items()}
        services = wiring.build(load(**own).connected(_await(data_dir, process)))
        _await_engine(services)
        yield process, services
        services.close()
    finally:
        process.terminate()
        process.wait()


def fetch(services: Services, urls: Sequence[str], out: Path) -> tuple[float, list[Job]]:
    """Download the URLs; seconds from the first admission to the last `done`, and the jobs."""
    jobs = await_end(services, submit(services, urls, out))
    ends = [job.events[-1].at for job in jobs]
    starts = [next(event.at for event in job.events if event.text.startswith("admitted")) for job in jobs]
    return max(ends) - min(starts), jobs


def submit(services: Services, urls: Sequence[str], out: Path) -> list[str]:
    """Ask for the URLs; the ids of the jobs."""
    requests = [parse({"uri": url, "user": "bench", "tier": "admin", "out": str(out)}, owner=True) for url in urls]
    ids: list[str] = []
    for start in range(0, len(requests), 500):
        ids += [answer.job.id for answer in accept(services, requests[start : start + 500]) if isinstance(answer, Accepted)]
    return ids


def await_end(services: Services, ids: Sequence[str]) -> list[Job]:
    """The jobs, once all have ended; looked at seldom, so that looking costs nothing."""
    while True:
        jobs = list(services.store.get(ids[-1:]).values())
        if all(job.terminal for job in jobs):
            jobs = list(services.store.get(ids).values())
            if all(job.terminal for job in jobs):
                break
        time.sleep(0.1)
    wrong = [job for job in jobs if job.state != "done"]
    assert not wrong, f"{len(wrong)} jobs failed: {wrong[0].message}"
    return jobs


def bare(urls: Sequence[str], out: Path, *, slots: int) -> float:
    """Seconds that aria2c alone takes for the URLs, with the options Haul gives it."""
    out.mkdir(parents=True)
    listed = out.with_suffix(".txt")
    listed.write_text("".join(f"{url}\n  out={number}\n" for number, url in enumerate(urls)))
    options = ["--no-conf", "-q", f"-j{slots}", "--continue=true", "--auto-file-renaming=false", "--file-allocation=none"]
    options += ["--max-tries=5", "--retry-wait=1", "--disk-cache=16M", "--auto-save-interval=5", "--follow-torrent=false"]
    begun = time.monotonic()
    subprocess.run([str(find_aria2c()), *options, "-d", str(out), "-i", str(listed)], check=True)
    took = time.monotonic() - begun
    shutil.rmtree(out)
    return took


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def resident_bytes(pid: int) -> int:
    """Resident memory of one process, shared pages included."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _await(data_dir: Path, process: subprocess.Popen[bytes]) -> Stack:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := running(data_dir):
            return found
        time.sleep(0.05)
    raise RuntimeError(f"haul up did not come up: {(data_dir / 'up.log').read_text()[-500:]}")


def _await_engine(services: Services) -> None:
    deadline = time.monotonic() + READY_S
    while not services.coordinator.snapshots():
        if time.monotonic() > deadline:
            raise RuntimeError("no supervisor has looked at the engine")
        time.sleep(0.05)
