"""`make bench`: prints the figures, medians of A B A B …, each beside its peer in the same run.

make bench                       all of them
make bench ARGS="small watch"    some
make bench ARGS="--json"         for a program
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench import stack
from tests.bench.admission import admission
from tests.bench.advisor import advisor
from tests.bench.backup import backup
from tests.bench.balancer import balancer
from tests.bench.bandwidth import bandwidth
from tests.bench.baseline import baseline
from tests.bench.batching import batching
from tests.bench.beside import beside
from tests.bench.buckets import buckets
from tests.bench.cache import cache
from tests.bench.guard import guard
from tests.bench.memory import memory
from tests.origin import Origin
from worker.ports import Services

MIB = 1 << 20
ROUNDS = 3
START_S = 60.0


def main() -> None:
    """Run the chosen benchmarks and print one line, or one JSON document, each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], help="which; all when none is named")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    chosen = parser.parse_args()
    for name in chosen.names or BENCHES:
        with tempfile.TemporaryDirectory(prefix="haul-bench-") as directory:
            figures = BENCHES[name](Path(directory), chosen.rounds)
        print(json.dumps({"bench": name, **figures}) if chosen.json else _words(name, figures), flush=True)


def large(directory: Path, rounds: int) -> dict[str, Any]:
    """One file of 4 GiB: admission to `done`, against bare aria2c."""
    return _against_bare(directory, rounds, files=1, size=4096 * MIB, limit=1.05)


def small(directory: Path, rounds: int) -> dict[str, Any]:
    """1,000 files of 1 MiB: first admission to last `done`, against bare aria2c."""
    return _against_bare(directory, rounds, files=1000, size=MIB, limit=1.8)


def cold(directory: Path, rounds: int) -> dict[str, Any]:
    """`haul get` from nothing to the first byte asked of the origin, and to its end."""
    first, whole = [], []
    with Origin() as origin:
        for number in range(rounds):
            environment = {**os.environ, "HAUL_DATA_DIR": str(directory / f"cold{number}")}
            url = origin.url(f"/file/c{number}.bin?size={MIB}")
            command = [sys.executable, "-m", "worker.cli", "get", url, "--out", str(directory)]
            begun = time.monotonic()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            while not origin.requests[f"/file/c{number}.bin"] and process.poll() is None:
                time.sleep(0.005)
            first.append(time.monotonic() - begun)
            assert process.wait() == 0, "haul get failed"
            whole.append(time.monotonic() - begun)
    return {"first_byte_s": median(first), "whole_command_s": median(whole), "limit_first_byte_s": 3.0}


def idle(directory: Path, _rounds: int) -> dict[str, Any]:
    """The embedded stack with nothing to do: resident memory and processor share over 30 s."""
    with stack.stack(directory / "data", slots=32) as (process, _services):
        time.sleep(5)
        pids = stack.tree(process.pid)
        before = sum(map(stack.cpu_s, pids))
        time.sleep(30)
        used = sum(map(stack.cpu_s, pids)) - before
        memory = {Path(f"/proc/{pid}/comm").read_text().strip(): round(stack.resident_bytes(pid) / MIB) for pid in pids}
    return {"resident_mib": sum(memory.values()), "by_process": memory, "core_share": used / 30, "limit_mib": 250, "limit_share": 0.02}


def watch(directory: Path, rounds: int) -> dict[str, Any]:
    """2,000 slow downloads on one aria2: the supervisor's processor share, and how soon an end is recorded."""
    count = 2000
    with stack.server("tests.bench.slow") as url, stack.stack(directory / "data", slots=2 * count) as (process, services):
        stack.submit(services, [f"{url}/{number}" for number in range(count)], directory / "out")
        _until(lambda: _items(services) >= count, START_S)
        time.sleep(5)
        before, begun = stack.cpu_s(process.pid), time.monotonic()
        time.sleep(20)
        share = (stack.cpu_s(process.pid) - before) / (time.monotonic() - begun)
        seen = [_seen_s(services, f"{url}/quick/{number}", directory / "out") for number in range(rounds)]
    return {"downloads": count, "core_share": share, "end_seen_s": max(seen), "limit_share": 0.10, "limit_seen_s": 2.0}


def _items(services: Services) -> int:
    seen = services.coordinator.snapshots().get("aria2")
    return seen.items if seen else 0


def _seen_s(services: Services, url: str, out: Path) -> float:
    """Seconds from handing over a download of 500 bytes, which ends at once, to its end in the store."""
    _, [job] = stack.fetch(services, [url], out)
    at = {event.text: event.at for event in job.events}
    return at["500 bytes are here"] - at["aria2 has it"]


def _against_bare(directory: Path, rounds: int, *, files: int, size: int, limit: float) -> dict[str, Any]:
    source = directory / "source"
    source.mkdir()
    with (source / "file").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    for number in range(1, files):
        os.link(source / "file", source / f"file{number}")
    names = ["file", *(f"file{number}" for number in range(1, files))]
    ours, alone, again = [], [], []
    with stack.server("tests.origin", "--dir", str(source)) as url, stack.stack(directory / "data", slots=32) as (_process, services):
        urls = [f"{url}/local/{name}" for name in names]
        for number in range(rounds):
            alone.append(stack.bare(urls, directory / f"bare{number}", slots=32))
            ours.append(stack.fetch(services, urls, directory / f"ours{number}")[0])
            shutil.rmtree(directory / f"ours{number}")
            again.append(stack.bare(urls, directory / f"again{number}", slots=32))
    spread = [a / b for a, b in zip(alone, again, strict=True)]
    return {
        "haul_s": median(ours),
        "bare_s": median(alone + again),
        "ratio": median(ours) / median(alone + again),
        "ratio_bare_to_bare": [min(spread), max(spread)],
        "limit": limit,
    }


def _until(done: Callable[[], bool], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the benchmark did not get where it measures")
        time.sleep(0.2)


def _words(name: str, figures: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:.3f}"
        if isinstance(value, list):
            return "-".join(map(shown, value))
        return str(value)

    return f"{name:6} " + "  ".join(f"{key}={shown(value)}" for key, value in figures.items())


BENCHES: Mapping[str, Callable[[Path, int], dict[str, Any]]] = {
    "large": large,
    "small": small,
    "cold": cold,
    "idle": idle,
    "watch": watch,
    "admission": admission,
    "advisor": advisor,
    "backup": backup,
    "balancer": balancer,
    "bandwidth": bandwidth,
    "buckets": buckets,
    "baseline": baseline,
    "batching": batching,
    "beside": beside,
    "cache": cache,
    "guard": guard,
    "memory": memory,
}

if __name__ == "__main__":
    main()
