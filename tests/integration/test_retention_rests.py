"""Retention leaves Python's lock to the steps of its process."""

from __future__ import annotations

import time
from pathlib import Path

from tests.contract.store_jobs import some_jobs
from tests.machine import Machine
from worker.jobs.states import State
from worker.maintenance import retention
from worker.maintenance.backup.pace import SHARE
from worker.ports import Change

JOBS = 300


def test_retention_takes_no_more_of_a_processor_than_its_share(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    store = machine.services.store
    jobs = some_jobs(JOBS)
    store.insert(jobs)
    store.apply([Change(job, job.moved(State.CANCELLED, job.created_at, "no")) for job in jobs])
    store.mark_sent({job.id: 2 for job in jobs})
    begun, used = time.monotonic(), time.thread_time()
    report = retention.run(machine.services)
    took, used = time.monotonic() - begun, time.thread_time() - used
    assert report.figures["jobs_removed"] == JOBS
    assert took >= 0.7 * used / SHARE  # what comes after the last rest is not made up for
