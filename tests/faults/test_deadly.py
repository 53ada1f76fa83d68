"""Jobs that their engine dies of"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.e2e.haul import Haul, stack_up
from tests.e2e.stack import Stack, digest, eventually, sha256, story
from tests.e2e.test_failover import ask, check
from tests.faults.catalogue import fault
from tests.origin import Origin
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
@pytest.mark.timeout(400)
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


#: aria2 saves its session each 10 s.
SAVED_S = 12.0


class _Trap(BaseHTTPRequestHandler):
    """A torrent that kills, under a plain link: slow at first, then at once."""

    def do_GET(self) -> None:
        if not self.server.sprung.is_set():  # type: ignore[attr-defined]
            self.server.over.wait(SAVED_S)  # type: ignore[attr-defined]
            self.server.sprung.set()  # type: ignore[attr-defined]
        self.do_HEAD()
        self.wfile.write(NO_PIECES)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-bittorrent")
        self.send_header("Content-Length", str(len(NO_PIECES)))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextmanager
def trap() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Trap) as server:
        server.daemon_threads = True
        server.sprung, server.over = threading.Event(), threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/x"
        finally:
            server.over.set()  # type: ignore[attr-defined]
            server.shutdown()
            thread.join()


@pytest.mark.timeout(400)
@fault(
    "A link kills the engine of `haul up` once it stands in the engine's session",
    provoked="a plain link to such a torrent that comes after 12 s at first, and at once from then on; aria2c would die of it again at "
    "each start, before anybody can tell it to leave it",
    holds="aria2c starts with an empty session; after four deaths the job is failed; all others end with the right bytes",
)
def test_a_link_that_stands_in_the_session_of_an_embedded_engine_fails_alone(tmp_path: Path) -> None:
    machine = Haul(tmp_path)
    machine.environment["HAUL_QBITTORRENT"] = "off"
    with Origin() as origin, trap() as link, stack_up(machine):
        (deadly,) = machine.json("add", link)
        others = [machine.json("add", origin.url(f"file/f{n}?size={4 * SIZE}&seed={n}&rate={RATE}"))[0]["id"] for n in range(4)]
        shown = lambda id: machine.json("show", id)  # noqa: E731
        log = lambda: (machine.data / "up.log").read_text()  # noqa: E731
        machine.run("watch", deadly["id"], timeout_s=ENDS_S)
        told = shown(deadly["id"])
        assert (told["cause"], told["message"]) == ("engine", "engines died 4 times, each time soon after they were given this job")
        assert log().count("server died") == TRIES_MAX
        for id in others:
            assert machine.run("watch", id, timeout_s=ENDS_S).returncode == 0, log()
        for n, id in enumerate(others):
            assert sha256(shown(id)["path"]) == digest(4 * SIZE, n)
        assert log().count("server died") == TRIES_MAX, "it stays up"
