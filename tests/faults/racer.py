"""A process that writes records, invalidates them, and reads them through the cache; prints what it wrote and read, and when.

python -m tests.faults.racer CACHE_URL RECORDS_URL PREFIX SECONDS SEED      begins when a line comes on its standard input

Records are counters in another Redis, so that a version is older than another when it is smaller. All processes share the machine's
monotonic clock.
"""

from __future__ import annotations

import json
import os
import random
import sys
import threading
import time

from redis import Redis

from worker.coordination.cache.redis import redis_cache
from worker.ports import Kind

RECORDS = 12
#: Ends in no run: invalidations alone make a read new.
RECORD = Kind("record", 3_600.0)
WRITE_EVERY_S = 0.02
READ_EVERY_S = 0.002
LOAD_S = 0.004


class Racer:
    """One writer and two readers over one cache."""

    def __init__(self, cache_url: str, records_url: str, prefix: str, seconds: float, seed: int) -> None:
        self._cache = redis_cache(cache_url, prefix=prefix, bytes_max=1 << 20, shared_bytes_max=1 << 20)
        self._records, self._seconds, self._seed = Redis.from_url(records_url), seconds, seed
        self.written: list[tuple[int, int, float, float]] = []
        self.read: list[tuple[int, int, float]] = []
        self.own_old = 0
        self.errors = 0

    def ready(self) -> None:
        """Wait for the subscription."""
        self._get(0)
        deadline = time.monotonic() + 20
        while not self._cache.stats().live and time.monotonic() < deadline:
            time.sleep(0.01)

    def run(self) -> dict[str, object]:
        """Race until the time is over."""
        end = time.monotonic() + self._seconds
        threads = [threading.Thread(target=self._write, args=(end,))]
        threads += [threading.Thread(target=self._read, args=(end, number)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        stats = self._cache.stats().kinds["record"]
        self._cache.close()
        figures = {"local": stats.local, "shared": stats.shared, "misses": stats.misses, "lost": stats.lost, "waits": stats.waits}
        return {"written": self.written, "read": self.read, "own_old": self.own_old, "errors": self.errors, **figures}

    def _get(self, record: int) -> int:
        def load() -> int:
            value = int(self._records.get(f"r{record}") or 0)
            time.sleep(random.random() * LOAD_S)  # what is written meanwhile makes it old
            return value

        tags = [f"of:{record % 3}"]
        return int(self._cache.get(RECORD, str(record), load, tags))

    def _write(self, end: float) -> None:
        chance = random.Random(self._seed)
        while time.monotonic() < end:
            record = chance.randrange(RECORDS)
            version = int(self._records.incr(f"r{record}"))
            how = chance.random()
            if how < 0.8:
                self._cache.invalidate(keys=[(RECORD, str(record))])
            elif how < 0.9:
                self._cache.invalidate(tags=[f"of:{record % 3}"])
            else:
                self._cache.invalidate(prefixes=["of:"])
            returned = time.monotonic()
            self.own_old += self._get(record) < version
            if self._cache.flush(30):  # a writer that gets no processor tells late: that is its own delay, not the cache's
                self.written.append((record, version, returned, time.monotonic()))
            time.sleep(chance.random() * 2 * WRITE_EVERY_S)

    def _read(self, end: float, number: int) -> None:
        chance = random.Random(self._seed * 10 + number)
        while time.monotonic() < end:
            record, begun = chance.randrange(RECORDS), time.monotonic()
            try:
                self.read.append((record, self._get(record), begun))
            except Exception:  # counted: a cache raises nothing of its own
                self.errors += 1
            time.sleep(READ_EVERY_S)


def main() -> None:
    """Race, and print one line."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is logged goes elsewhere
    cache_url, records_url, prefix, seconds, seed = sys.argv[1:6]
    racer = Racer(cache_url, records_url, prefix, float(seconds), int(seed))
    racer.ready()
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    print(json.dumps(racer.run()), file=out, flush=True)


if __name__ == "__main__":
    main()
