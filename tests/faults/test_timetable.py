"""Works by the clock: beats and workers doubled, killed, and without Redis at the moment something is due."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest

from beat_schedule import CLOCK
from tests.e2e.stack import Program, Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.quick_work import NAME, entry
from worker.limits import LEASE_S
from worker.maintenance.past import result_of
from worker.maintenance.schedule import BORN, entries, slot_time
from worker.maintenance.works import WORKS
from worker.ports import Run
from worker.store import open_store

#: For a machine with much else to do.
START_S = 60.0
PERIOD_S = 60.0
HOUR_S = 3_600.0


class Clockwork:
    """Two beats and two workers, of both pools, on one stack."""

    def __init__(self, stack: Stack, seconds: str) -> None:
        self.stack, self.seconds = stack, seconds
        self.notes = stack.directory / "notes"
        self.environment = {"QUICK_SECONDS": seconds, "QUICK_NOTES": str(self.notes)}
        self.beats = [self._start("beat", "--schedule", str(stack.directory / f"beat{n}")) for n in range(2)]
        self.workers = {pool: self.worker(pool) for pool in ("threads", "prefork")}

    def worker(self, pool: str) -> Program:
        options = ("--pool", pool, "--concurrency", "2", "--without-gossip", "--without-mingle", "--hostname", f"{pool}-{time.time()}@here")
        return self._start("worker", *options)

    def _start(self, *program: str) -> Program:
        return self.stack.run("celery", "-A", "tests.faults.quick_clock", *program, **self.environment)

    def lines(self) -> list[Run]:
        """The ledger, oldest first, without its first line."""
        return [line for line in self.stack.services.store.runs(NAME, 100) if line.slot != BORN][::-1]

    def results(self) -> list[tuple[str, str]]:
        return [(line.slot, result_of(line)) for line in self.lines()]

    def born(self) -> bool:
        return bool(self.stack.services.store.runs(NAME, 1))

    def noted(self) -> list[list[str]]:
        return [line.split() for line in self.notes.read_text().splitlines()] if self.notes.exists() else []

    def runs_in(self) -> int | None:
        """The process that is at work, None when nobody is."""
        noted = self.noted()
        return int(noted[-1][1]) if noted and noted[-1][0] == "begin" else None

    def check_slots(self) -> None:
        """Each time it was due since the first run is in the ledger, and went well once or was missed."""
        lines = self.lines()
        tries: dict[float, list[str]] = {}
        for line in lines:
            tries.setdefault(slot_time(line.slot) or 0.0, []).append(result_of(line))
        first, last = min(tries), max(tries)
        assert sorted(tries) == [first, *entry(self.seconds).slots(first, last)], self.results()
        assert all(results.count("ok") + results.count("missed") == 1 for at, results in tries.items() if at != last), self.results()


@pytest.mark.timeout(300)
@fault(
    "The process that does a work by the clock is killed in the middle of it; beats and workers are doubled",
    provoked="two `celery beat`, each with a message a second, and two workers, one of each pool; SIGKILL to the process at it",
    holds="each time it is due one of them takes it; what the dead process left is begun again by another when its lease has run out, and"
    " the ledger tells of both",
)
def test_a_work_whose_process_is_killed_is_done_by_another_and_no_other_one_twice(stack: Stack) -> None:
    clockwork = Clockwork(stack, f"{int(time.time() + 20) % 60}")
    eventually(clockwork.born, "somebody looks", START_S, stack.tail)
    killed = eventually(clockwork.runs_in, "somebody is at work", PERIOD_S + START_S, stack.tail)
    os.kill(killed, signal.SIGKILL)
    for pool, worker in clockwork.workers.items():
        if worker.pid == killed:
            clockwork.workers[pool] = clockwork.worker(pool)
    eventually(
        lambda: [result for _, result in clockwork.results()][:2] == ["died", "ok"], "another does it", 2 * LEASE_S + START_S, stack.tail
    )
    slots = [slot for slot, _ in clockwork.results()][:2]
    assert slots[1] == f"{slots[0]}#2"
    eventually(
        lambda: [result for _, result in clockwork.results()].count("ok") >= 2, "the next one is done", PERIOD_S + START_S, stack.tail
    )
    clockwork.check_slots()
    begun = [pid for what, pid in clockwork.noted() if what == "begin"]
    assert len(begun) == len(clockwork.lines()), "nothing ran that is not in the ledger"


@pytest.mark.timeout(300)
@fault(
    "Redis is away when a work by the clock is due, or until its time is over",
    provoked="two `celery beat` and two workers; SIGKILL to Redis before a work is due, over its window and into that of the next",
    holds="one that can still be caught up when Redis is back is done once; one that cannot is written down as missed",
)
def test_a_work_that_is_due_while_redis_is_away_is_caught_up_or_written_down(stack: Stack) -> None:
    first = int(time.time() + 15) % 60
    clockwork = Clockwork(stack, f"{first},{(first + 30) % 60}")
    eventually(lambda: "ok" in dict(clockwork.results()).values(), "the first one is done", PERIOD_S + START_S, stack.tail)
    due = entry(clockwork.seconds).next(time.time())
    assert due is not None
    stack.redis.process.kill()
    stack.redis.process.wait()
    eventually(lambda: time.time() > due + PERIOD_S / 2 + 3, "two are due meanwhile", 2 * PERIOD_S)
    stack.redis.restart()
    stack.redis.await_ready()
    back = time.time()
    eventually(
        lambda: len(clockwork.lines()) >= 3 and "running" not in dict(clockwork.results()).values(),
        "they are dealt with",
        START_S,
        stack.tail,
    )
    print(f"dealt with {time.time() - back:.0f} s after Redis was back: {clockwork.results()}")
    assert [result for _, result in clockwork.results()][1] == "missed"
    clockwork.check_slots()
    ended = [what for what, _ in clockwork.noted()].count("end")
    assert ended == sum(result == "ok" for _, result in clockwork.results())


@pytest.mark.timeout(300)
@fault(
    "A machine was off for five hours, or is new",
    provoked="`haul up` with defaults on records in which one hourly work has run until five hours ago, and the others never",
    holds="within two minutes each time it was due is in the ledger, run or missed, and every work is followed from then on; nobody else is"
    " asked to do anything",
)
def test_a_stack_that_is_started_takes_up_its_works_by_itself(tmp_path: Path) -> None:
    address, now = f"sqlite:///{tmp_path / 'haul.db'}", time.time()
    with closing(open_store(address)) as store:
        report = {"since": now - 5 * HOUR_S, "at": now - 5 * HOUR_S}
        store.keep_runs([Run("engines", BORN, "before", store.now(), store.now(), True, report)])
        settings = {"HAUL_DATA_DIR": str(tmp_path), "HAUL_API_PORT": "0", "HAUL_QBITTORRENT": "off"}
        log = tmp_path / "up.log"
        up = Program(settings, log, "worker.cli", "up")
        try:
            eventually(lambda: all(store.runs(name, 1) for name in WORKS), "all works are followed", 120, log.read_text)
            due = list(entries(CLOCK, "UTC")["engines"].slots(now - 5 * HOUR_S, now))

            def told() -> bool:
                known = {slot_time(line.slot): result_of(line) for line in store.runs("engines", 99)}
                return all(known.get(at) in ("ok", "missed") for at in due) and len(due) == 5

            eventually(told, "what was due meanwhile is in the ledger", 60, lambda: store.runs("engines", 99))
        finally:
            assert up.stop() == 0
