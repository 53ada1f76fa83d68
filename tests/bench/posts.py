"""An API in a process of its own, for `batching`, and the clients that ask it.

python -m tests.bench.posts one|batched REDIS DIRECTORY     prints its URL, ends at the end of its input
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from worker import wiring
from worker.api.server import serve
from worker.jobs.tiers import FixedTiers, Tier
from worker.settings import load

HEADERS = {"Content-Type": "application/json"}
#: What is measured is the way to the record, not the wait for a limit.
UNBOUNDED = FixedTiers({"free": Tier("free", rate=None)})


def main() -> None:
    """See the module."""
    how, redis_url, directory = sys.argv[1:]
    data = Path(directory)
    data.mkdir()
    built = wiring.build(load(data_dir=data, redis_url=redis_url, key_prefix=data.name, engines="aria2+http://:secret@127.0.0.1:9/jsonrpc"))
    services = replace(built, tiers=UNBOUNDED, store=built.store if how == "batched" else built.store._inner)  # type: ignore[attr-defined]
    api = serve(services, host="127.0.0.1", port=0)
    api.start()
    print(api.url, flush=True)
    sys.stdin.read()
    api.stop()
    built.close()


def posted_a_second(url: str, clients: int, seconds: float) -> float:
    """Jobs a second that so many clients get recorded, each asking anew when it was answered."""
    host = urlsplit(url).netloc
    counts, wrong, begin = [0] * clients, [], threading.Barrier(clients + 1)
    over = threading.Event()

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.connect()
        begin.wait(60)
        while not over.is_set():
            body = {"uri": f"https://host.example/{number}/{counts[number]}", "user": f"u{number}", "key": str(counts[number])}
            connection.request("POST", "/v1/jobs", json.dumps(body), HEADERS)
            answer = connection.getresponse()
            text = answer.read()
            if answer.status != 201:
                wrong.append((answer.status, text[:200]))
                return
            counts[number] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    begin.wait(60)
    begun = time.monotonic()
    over.wait(seconds)
    over.set()
    took = time.monotonic() - begun
    for thread in threads:
        thread.join(60)
    assert not wrong, wrong[0]
    return sum(counts) / took


if __name__ == "__main__":
    main()
