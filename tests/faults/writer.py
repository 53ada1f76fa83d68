"""A process that writes to an SQLite store from several threads and says what was acknowledged, until it is killed.

python -m tests.faults.writer PATH NAME
"""

from __future__ import annotations

import os
import sys
import threading

from tests.contract.store_jobs import NOW, a_job
from worker.metrics import Metrics
from worker.ports import Change
from worker.store import open_store
from worker.store.batching import BatchingStore

THREADS = 8


def main(path: str, name: str) -> None:
    """Record jobs and change each once; a line for each answer: the key, and the version that is recorded."""
    store = BatchingStore(open_store(f"sqlite:///{path}"), Metrics())
    threads = [threading.Thread(target=_write, args=(store, f"{name}:{number}")) for number in range(THREADS)]
    for thread in threads:
        thread.start()


def _write(store: BatchingStore, name: str) -> None:
    turn = 0
    while True:
        turn += 1
        job = a_job(f"{name}:{turn}")
        [inserted] = store.insert([job])
        _say(job.key, job.version if inserted.created else -1)
        new = job.noted(NOW, "changed")
        [applied] = store.apply([Change(job, new)])
        _say(job.key, new.version if applied.won else -1)


def _say(key: str, version: int) -> None:
    os.write(1, f"{key} {version}\n".encode())  # a line is written whole, or not at all


if __name__ == "__main__":
    main(*sys.argv[1:])
