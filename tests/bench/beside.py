"""What downloads, viewers and the supervisor lose while the night's backup runs beside them, in the process of `haul up`.

HAUL_TEST_BESIDE_JOBS=100000    records that are backed up
HAUL_TEST_BESIDE_STORE=sqlite   or mongodb, in the stand-in of the tests

python -m tests.bench.beside up     is `haul up` whose backups have no bound and give way to nobody
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pymongo import MongoClient

from beat_schedule import CLOCK
from tests.bench import stack
from tests.integration.grown import _job
from tests.mongodb import mongo_server
from worker.celery import create_app, sender
from worker.cli.lock import running
from worker.maintenance.schedule import BORN, entries
from worker.ports import Run, Services
from worker.store import open_store

JOBS = int(os.environ.get("HAUL_TEST_BESIDE_JOBS", "100000"))
STORE = os.environ.get("HAUL_TEST_BESIDE_STORE", "sqlite")
MIB = 1 << 20
#: What is fetched again and again: so many files of so many bytes.
LARGE, SMALL = (4, 128 * MIB), (200, 64 * 1024)
#: Times that both are fetched while nothing runs beside them.
QUIET = 5
LOOK_EVERY_S, ASK_EVERY_S = 0.1, 2.0
BACKUP_S = 900.0
KINDS = ("bounded", "free", "none")
NAME, LOOP = "backup", "engine-aria2"


@dataclass
class Seen:
    """What was measured while something ran: seconds of each batch of downloads and of each look of the viewer, and ages of ticks."""

    large: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    looks: list[float] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)

    @staticmethod
    def of(some: Sequence[Seen]) -> Seen:
        """All of them as one."""
        return Seen(*([value for seen in some for value in getattr(seen, name)] for name in ("large", "small", "looks", "ages")))


@dataclass
class Measured:
    """One kind of backup: downloads alone and beside it, by rounds; its seconds alone, and beside downloads."""

    quiet: list[Seen] = field(default_factory=list)
    loud: list[Seen] = field(default_factory=list)
    alone_s: list[float] = field(default_factory=list)
    beside_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Machine:
    """A stack with its records, and where it may write."""

    services: Services
    data: Path
    out: Path
    large: Sequence[str]
    small: Sequence[str]


def beside(directory: Path, rounds: int) -> dict[str, Any]:
    """Downloads with the night's backup, against those without, one after the other; as it is (`bounded`), and with no bound (`free`).

    Downloads go on for longer beside a backup than before it, and get slower by that alone: `none` has none for as long as the last
    `bounded` one took, and tells what is not a backup's doing.

    `…_large` and `…_small` are the speed of downloads of 128 MiB and of 64 KiB each, against those without a backup; `…_apart` is
    how far the medians of single rounds without one are from that of all, which is the noise. Four figures are without and with it:
    p50 and p95 of how long a viewer waits for a list, in milliseconds, and of how long ago the engine's owner last ended a tick.
    `…_backup_s` is how long a backup takes alone, and beside downloads.
    """
    with ExitStack() as held:
        urls = _origin(held, directory / "source")
        machines = {kind: _machine(held, directory / kind, urls, kind) for kind in KINDS}
        for kind, machine in machines.items():
            _told(f"{kind}: warming up")
            _batches(machine, Seen(), lambda: True)
        found = {kind: Measured() for kind in machines}
        for number in range(rounds):
            for kind, machine in machines.items():
                seconds = found["bounded"].beside_s[-1] if kind == "none" else None
                _round(machine, found[kind], f"{kind}, round {number + 1} of {rounds}", seconds)
    load = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    figures = {name: value for kind in found for name, value in _figures(kind, found[kind]).items()}
    return {"store": STORE, "jobs": JOBS, **load, **figures, "limit": 0.95}


def _round(machine: Machine, found: Measured, title: str, without_s: float | None) -> None:
    _told(f"{title}: downloads alone")
    found.quiet.append(_quiet(machine))
    _told(f"{title}: downloads {'beside a backup' if without_s is None else 'for as long'}")
    seen, took = _loud(machine, without_s)
    found.loud.append(seen)
    found.beside_s.append(took)
    if without_s is None:
        _told(f"{title}: a backup alone")
        found.alone_s.append(_backed_up(machine, lambda ended: ended.wait()))


def _figures(kind: str, found: Measured) -> dict[str, Any]:
    quiet, loud = Seen.of(found.quiet), Seen.of(found.loud)

    def four(name: str) -> list[float]:
        return [1000 * value for seen in (quiet, loud) for value in (median(getattr(seen, name)), _p95(getattr(seen, name)))]

    def apart(name: str) -> list[float]:
        ratios = [median(getattr(quiet, name)) / median(getattr(seen, name)) for seen in found.quiet]
        return [min(ratios), max(ratios)]

    return {
        f"{kind}_large": median(quiet.large) / median(loud.large),
        f"{kind}_large_apart": apart("large"),
        f"{kind}_large_mib_s": [LARGE[0] * LARGE[1] / MIB / median(seen.large) for seen in (quiet, loud)],
        f"{kind}_small": median(quiet.small) / median(loud.small),
        f"{kind}_small_apart": apart("small"),
        f"{kind}_small_jobs_s": [SMALL[0] / median(seen.small) for seen in (quiet, loud)],
        f"{kind}_batches": [len(quiet.large), len(loud.large)],
        f"{kind}_look_ms": four("looks"),
        f"{kind}_age_ms": four("ages"),
        f"{kind}_backup_s": [median(found.alone_s or [0.0]), median(found.beside_s)],
    }


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


def _quiet(machine: Machine) -> Seen:
    seen = Seen()
    with _looked(machine, seen):
        _batches(machine, seen, lambda: len(seen.small) >= QUIET)
    return seen


def _loud(machine: Machine, without_s: float | None) -> tuple[Seen, float]:
    """Beside a backup, or none for so long, with its seconds; downloads that had not ended by its end do not count, but the first ones."""
    seen = Seen()

    def work(ended: threading.Event) -> None:
        with _looked(machine, seen):
            _batches(machine, seen, ended.is_set)

    return seen, _backed_up(machine, work) if without_s is None else _nothing(without_s, work)


def _batches(machine: Machine, seen: Seen, over: Callable[[], bool]) -> None:
    """Fetch large and small files in turn, at least once each; what ends when it is over does not count."""
    while not (over() and seen.large and seen.small):
        for urls, took in ((machine.large, seen.large), (machine.small, seen.small)):
            seconds, _ = stack.fetch(machine.services, urls, machine.out)
            shutil.rmtree(machine.out)
            if not took or not over():
                took.append(seconds)
                _told(f"  {len(urls)} files in {seconds:.2f} s")


@contextmanager
def _looked(machine: Machine, seen: Seen) -> Iterator[None]:
    """A viewer asks for a list ten times a second, and when the engine's owner looked last."""
    found = running(machine.data)
    assert found is not None
    assert found.api_url is not None
    connection, over = http.client.HTTPConnection(urlsplit(found.api_url).netloc, timeout=60), threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            begun = time.monotonic()
            _asked(connection, "/v1/jobs?user=bench&limit=20")
            seen.looks.append(time.monotonic() - begun)
            seen.ages.append(_asked(connection, "/health")["loops"][LOOP])

    viewer = threading.Thread(target=look)
    viewer.start()
    try:
        yield
    finally:
        over.set()
        viewer.join()
        connection.close()


def _asked(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text[:300]
    return json.loads(text)


def _backed_up(machine: Machine, work: Callable[[threading.Event], object]) -> float:
    """Make the backup of last night due, send the message that beat sends, and do something until it has ended; its seconds."""
    _forget(machine)
    services = machine.services
    slot = entries(CLOCK, services.settings.timezone)[NAME].latest(time.time())
    assert slot is not None
    born = Run(NAME, BORN, "bench", services.store.now(), services.store.now(), True, {"since": slot - 1, "at": time.time()})
    services.store.keep_runs([born])
    send, ended, runs = sender(create_app(services.settings)), threading.Event(), []

    def wait() -> None:
        deadline, asked_at = time.monotonic() + BACKUP_S, -ASK_EVERY_S
        while time.monotonic() < deadline and not ended.is_set():
            begun = [run for run in services.store.runs(NAME, 5) if run.slot != BORN]
            runs[:] = [run for run in begun if run.ended_at is not None]
            if runs:
                ended.set()
            elif not begun and time.monotonic() - asked_at >= ASK_EVERY_S:  # the one before may still have its lane
                send(f"haul.maintenance.{NAME}")
                asked_at = time.monotonic()
            time.sleep(LOOK_EVERY_S)

    waiter = threading.Thread(target=wait)
    waiter.start()
    work(ended)
    waiter.join()
    assert runs, f"the backup did not end in {BACKUP_S:g} s"
    assert runs[0].ok, runs[0].report
    shutil.rmtree(machine.data / "backups")
    return float(runs[0].report["seconds"])


def _nothing(seconds: float, work: Callable[[threading.Event], object]) -> float:
    ended = threading.Event()
    timer = threading.Timer(seconds, ended.set)
    timer.start()
    work(ended)
    timer.join()
    return seconds


def _forget(machine: Machine) -> None:
    """Nothing of backups is in the ledger."""
    address = machine.services.settings.store_address
    if address.startswith("mongodb"):
        with MongoClient[dict[str, Any]](address) as client:
            client.get_default_database().runs.delete_many({"name": NAME})
        return
    with closing(sqlite3.connect(urlsplit(address).path, timeout=30, isolation_level=None)) as connection:
        connection.execute("DELETE FROM runs WHERE name = ?", (NAME,))


def _origin(held: ExitStack, source: Path) -> tuple[list[str], list[str]]:
    source.mkdir()
    names: dict[str, list[str]] = {}
    for kind, (files, size) in (("large", LARGE), ("small", SMALL)):
        names[kind] = [f"{kind}{number}" for number in range(files)]
        with (source / names[kind][0]).open("wb") as file:
            for _ in range(max(1, size // MIB)):
                file.write(os.urandom(min(size, MIB)))
        for name in names[kind][1:]:
            os.link(source / names[kind][0], source / name)
    url = held.enter_context(stack.server("tests.origin", "--dir", str(source)))
    return [f"{url}/local/{name}" for name in names["large"]], [f"{url}/local/{name}" for name in names["small"]]


def _machine(held: ExitStack, data: Path, urls: tuple[list[str], list[str]], kind: str) -> Machine:
    data.mkdir()
    environment = {"HAUL_TIMEZONE": _zone(), "HAUL_QBITTORRENT": "off"}
    if STORE == "mongodb":
        server = held.enter_context(mongo_server(data / "mongodb"))
        environment["HAUL_STORE_URL"] = f"mongodb://{server.address}/bench?timeoutMS=60000"
    elif STORE != "sqlite":
        raise ValueError(f"HAUL_TEST_BESIDE_STORE: {STORE} is neither sqlite nor mongodb")
    _told(f"{kind}: filling a {STORE} store with {JOBS} jobs")
    _fill(environment.get("HAUL_STORE_URL", f"sqlite:///{data}/haul.db"))
    if kind == "free":
        environment["HAUL_BACKUP_RATE"] = "0"
    module = __spec__.name if kind == "free" else "worker.cli"
    _, services = held.enter_context(stack.stack(data, slots=32, module=module, environment=environment))
    return Machine(services, data, data.with_name(f"{kind}-out"), *urls)


def _fill(url: str) -> None:
    """Jobs that have ended and of which everything is told."""
    with closing(open_store(url)) as store:
        for start in range(0, JOBS, 1000):
            jobs = [_job(number // 3 * 8 + 5 + number % 3, []) for number in range(start, min(JOBS, start + 1000))]
            store.insert([replace(job, sent=job.version, hook=None) for job in jobs])


def _zone() -> str:
    """One where it is about seven in the morning: a backup that nobody has made this night is caught up."""
    ahead = (datetime.now(UTC).hour - 7 + 12) % 24 - 12
    zone = f"Etc/GMT{ahead:+d}"  # the names count westwards
    assert datetime.now(ZoneInfo(zone)).hour == 7
    return zone


def _told(words: str) -> None:
    print(f"beside: {words}", file=sys.stderr, flush=True)


def main() -> None:
    """`haul up` whose backups give way to nobody; their rate is for the settings."""
    from worker.cli import main as haul
    from worker.maintenance.backup import work

    work.yield_to_others = lambda: None
    haul()


if __name__ == "__main__":
    main()
