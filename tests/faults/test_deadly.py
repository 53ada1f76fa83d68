"""Jobs that their engine dies of"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, eventually, story
from tests.e2e.test_failover import ask, check
from tests.faults.catalogue import fault
from tests.torrents import bencode
from worker.jobs.states import Cause
from worker.pipeline import why
from worker.tries import TRIES_MAX

SIZE, RATE = 1_500_000, 150_000
JOBS = 10
ENDS_S = 200.0
#: aria2 divides by the length of a piece.
NO_PIECES = bencode({"info": {"length": 1_000, "name": "x", "piece length": 0, "pieces": b"x" * 20}})
NO_SIZE = (
    b'<?xml version="1.0" encoding="UTF-8"?><metalink xmlns="urn:ietf:params:xml:ns:metalink">'
    b'<file name="x"><size>9223372036854775807</size><url>http://127.0.0.1:9/x</url></file></metalink>'
)


@contextmanager
def kept_running(stack: Stack) -> Iterator[Counter[str]]:
    """Start engines that died again at once, as a supervisor of processes does; yields how often each has died."""
    deaths: Counter[str] = Counter()
    over = threading.Event()

    def keep() -> None:
        while not over.wait(0.1):
            for name, engine in stack.engines.items():
                if not engine.server.alive:
                    deaths[name] += 1
                    engine.server.restart()

    thread = threading.Thread(target=keep, daemon=True)  # what it starts ends with it
    thread.start()
    try:
        yield deaths
    finally:
        over.set()
        thread.join()


@fault(
    "A link kills every engine that follows it, while others download",
    provoked="a plain link to a .torrent file with pieces of no length, or to a metalink with an absurd size; aria2c dies of it "
    "(SIGFPE, SIGABRT) and is started again at once, with its session",
    holds="after four deaths in all, of two engines, the job is failed with cause `engine` and its reason; all others end with the right "
    "bytes, and the engines stay up",
)
@pytest.mark.parametrize(("name", "document"), [("x.torrent", NO_PIECES), ("x.meta4", NO_SIZE)], ids=["torrent", "metalink"])
def test_a_link_that_kills_engines_fails_alone(tmp_path: Path, name: str, document: bytes) -> None:
    with Stack(tmp_path / "s", engines=("aria2", "aria2-2")) as stack, kept_running(stack) as deaths:
        stack.work()
        stack.origin.document(name, document)
        early = ask(stack, range(JOBS), SIZE, RATE)
        deadly = stack.ask(f"status/302?location=/doc/{name}", "stranger")
        late = ask(stack, range(JOBS, JOBS + 4), SIZE, RATE)
        job = stack.until(deadly, "failed", timeout_s=ENDS_S)
        assert job.cause is Cause.ENGINE, story(job)
        assert sum(deaths.values()) == TRIES_MAX == job.engine_deaths, story(job)
        assert "engines died 4 times" in why(stack.services, deadly).text
        assert stack.told(deadly)[-1] == "job.failed"
        stack.until_all([*early, *late], timeout_s=ENDS_S)
        check(stack, early | late, SIZE)
        assert all(stack.told(id).count("job.completed") == 1 for id in early | late)

        more = ask(stack, range(50, 56), 100_000)
        stack.until_all(list(more))
        assert sum(deaths.values()) == TRIES_MAX, "they stay up"
        eventually(lambda: all(engine.server.alive for engine in stack.engines.values()), "they run", 10)
