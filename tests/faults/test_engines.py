"""Engines: killed, hung, slow, lying, and with another password"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.engines import aria2c_program, qbittorrent_program
from tests.e2e.stack import SLACK_BYTES, Stack, eventually, story
from tests.faults.behind import Behind
from tests.faults.catalogue import fault
from tests.faults.downloads import DONE, ENGINES, RATE, ask, check, put_right, served
from worker import pipeline
from worker.cli.servers import Server, start_aria2c
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.jobs.states import State
from worker.limits import RPC_TIMEOUT_S

MB = 1_000_000
#: Of files that are not of 1 MB.
SIZES = {"a": RATE * 4}
#: What an engine that was killed may have to fetch again: aria2 saves each 5 s, qBittorrent what it has checked.
KILLED_SLACK_BYTES = 7 * RATE
#: Until an owner has noticed, waited for its time-out, and looked again.
AGAIN_S = 60


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The one that the fault is about."""
    return str(request.param)


@pytest.fixture
def stack(tmp_path: Path, engine: str) -> Iterator[Stack]:
    """A stack with this engine alone, and a worker."""
    with Stack(tmp_path / "s", engines=(engine,)) as running:
        running.work()
        yield running


def running(stack: Stack, engine: str, name: str, size: int) -> str:
    """A job some of whose bytes are here."""
    id = ask(stack, engine, name, size)
    eventually(lambda: served(stack, name) > RATE, "it runs", seen=stack.tail)
    return id


def view(stack: Stack, engine: str) -> dict[str, Any]:
    """What `haul engines list` and the API show of an engine."""
    return next(shown for shown in pipeline.overview(stack.services)["engines"] if shown["name"] == engine)


def says(stack: Stack, engine: str, words: str) -> None:
    """Return when the overview shows the engine as down, with these words."""
    eventually(lambda: words in str(view(stack, engine)["error"]), f"it says {words!r}", seen=lambda: view(stack, engine))


def kill(server: Server) -> None:
    server.process.kill()
    server.process.wait()


def start(server: Server) -> None:
    server.restart()
    server.await_ready()


def each_done_once(stack: Stack, jobs: Mapping[str, str], sizes: Mapping[str, int] = SIZES) -> None:
    """Every job, by the name of its file, was fetched once, as the first attempt; a file without a size has a megabyte."""
    stack.until_all(list(jobs.values()), timeout_s=AGAIN_S)
    for name, id in jobs.items():
        check(stack, id, name, sizes.get(name, MB))
        assert stack.job(id).attempt == 1, story(stack.job(id))
        assert stack.told(id) == DONE
        assert served(stack, name) <= sizes.get(name, MB) + SLACK_BYTES, "it was fetched once"


def forget_session(stack: Stack, engine: str) -> None:
    """Delete what an engine that does not run would begin with."""
    if engine == "aria2":
        (stack.directory / "aria2.session").write_text("")
    else:
        shutil.rmtree(stack.directory / "qBittorrent" / "data" / "BT_backup")


# ---- killed ----


@fault(
    "An engine is killed and comes back without its session",
    provoked="kill -9 while one job runs, one is paused and one is complete but not in place; its session is deleted before the start",
    holds="each goes on where it was, as the same attempt; what was on the disk is not fetched again; each is delivered once",
)
def test_downloads_go_on_when_their_engine_came_back_with_nothing(stack: Stack, engine: str) -> None:
    size = RATE * 12
    runs, paused = ask(stack, engine, "r", size), ask(stack, engine, "pp", size)
    eventually(lambda: served(stack, "pp") > RATE, "some of it is here", seen=stack.tail)
    stack.act(paused, "pause")
    stack.until(paused, "paused")
    eventually(lambda: stack.services.coordinator.claim("finish:quick", "test", 60), "nobody finishes anything")
    complete = ask(stack, engine, "ccc", MB, rate=0)
    stack.until(complete, "finishing")
    eventually(lambda: served(stack, "r") > RATE * 4, "it runs", seen=stack.tail)

    kill(stack.engines[engine].server)
    forget_session(stack, engine)
    start(stack.engines[engine].server)
    stack.services.coordinator.unclaim("finish:quick", "test")

    stack.until(complete, "done", timeout_s=AGAIN_S)
    assert stack.job(paused).state is State.PAUSED, "it did not go on by itself"
    stack.act(paused, "resume")
    for id, name, bytes in ((complete, "ccc", MB), (runs, "r", size), (paused, "pp", size)):
        stack.until(id, "done", timeout_s=AGAIN_S)
        check(stack, id, name, bytes)
    assert {stack.job(id).attempt for id in (runs, paused)} == {1}, story(stack.job(runs))
    assert served(stack, "r") <= size + KILLED_SLACK_BYTES
    assert served(stack, "pp") <= size + SLACK_BYTES
    assert served(stack, "ccc") <= MB + SLACK_BYTES, "what is complete is not fetched again"
    assert stack.told(runs) == DONE


# ---- hung ----


class Gaps:
    """The longest time between two looks of an engine's owner, as its snapshots say."""

    def __init__(self, stack: Stack, engine: str) -> None:
        self.longest_s = 0.0
        self._stack, self._engine = stack, engine
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Gaps:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        seen_at, changed = 0.0, time.monotonic()
        while not self._over.wait(0.1):
            snapshot = self._stack.services.coordinator.snapshots().get(self._engine)
            if snapshot is not None and snapshot.at != seen_at:
                seen_at, changed = snapshot.at, time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - changed)


@contextlib.contextmanager
def hung(server: Server) -> Iterator[None]:
    """The program stands still inside."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


@fault(
    "An engine hangs, for longer than its calls may take, and goes on",
    provoked="SIGSTOP of one of two engines during a download and while another is handed over; SIGCONT 17 s later",
    holds="it is shown as down; the other engine is looked at each second and its jobs end; then all end once, as the same attempt",
)
def test_an_engine_that_hangs_holds_up_no_other_and_goes_on(tmp_path: Path, engine: str) -> None:
    other = next(name for name in ENGINES if name != engine)
    with Stack(tmp_path / "s", engines=ENGINES) as stack:
        stack.work()
        runs = running(stack, engine, "r", RATE * 5)
        with hung(stack.engines[engine].server):
            begun = time.monotonic()
            handed = ask(stack, engine, "hh", MB, rate=0)
            stack.until(handed, "submitting")
            with Gaps(stack, other) as gaps:
                says(stack, engine, "no answer in time")
                stack.until(unaffected := ask(stack, other, "ooo", RATE * 3), "done")
                later = ask(stack, engine, "llll", MB, rate=0)
                eventually(lambda: time.monotonic() - begun > 1.7 * RPC_TIMEOUT_S, "a second call waits for its answer")
            assert "does not answer" in pipeline.why(stack.services, later).text or stack.job(later).state is State.SUBMITTING
        assert gaps.longest_s < RPC_TIMEOUT_S / 2

        each_done_once(stack, {"r": runs, "hh": handed, "llll": later, "ooo": unaffected}, {"r": RATE * 5, "ooo": RATE * 3})
        assert view(stack, engine)["up"]


# ---- slow, cut, silent ----


@fault(
    "The way to an engine is slow",
    provoked="a proxy keeps each piece for 0.7 s during an order, then for 12 s, longer than a call may take, during the next one",
    holds="it works while answers come in time; then the engine is shown as down; every job ends once, as the same attempt",
)
def test_an_engine_that_answers_late_loses_and_doubles_nothing(tmp_path: Path, engine: str) -> None:
    with Behind(tmp_path / "s", (engine,)) as stack:
        stack.work()
        proxy = stack.proxies[engine]
        jobs = {"a": running(stack, engine, "a", SIZES["a"])}
        proxy.delay(0.7)
        jobs["bb"] = ask(stack, engine, "bb", MB)
        stack.until(jobs["bb"], "downloading", "finishing", "done", timeout_s=AGAIN_S)

        jobs["ccc"] = ask(stack, engine, "ccc", MB)
        stack.until(jobs["ccc"], "submitting", "downloading")
        proxy.delay(RPC_TIMEOUT_S + 2)
        says(stack, engine, f"engine {engine}: ")  # that it gives no answer in time, or that it ended a connection that was silent
        proxy.heal()
        each_done_once(stack, jobs)


@fault(
    "The way to an engine breaks again and again, or swallows everything",
    provoked="a proxy resets all connections ten times a second for 5 s, then takes what is sent and passes nothing on",
    holds="the engine is shown as down when it is silent; every job ends once, as the same attempt",
)
def test_a_broken_way_to_an_engine_loses_and_doubles_nothing(tmp_path: Path, engine: str) -> None:
    with Behind(tmp_path / "s", (engine,)) as stack:
        stack.work()
        proxy = stack.proxies[engine]
        jobs = {"a": ask(stack, engine, "a", SIZES["a"])}
        over = time.monotonic() + 5
        while time.monotonic() < over:
            if len(jobs) < 4:
                jobs |= {name: ask(stack, engine, name, MB) for name in ("bb", "ccc", "dddd")}
            proxy.cut()
            time.sleep(0.1)  # the pace of the fault
        stack.until_all(list(jobs.values()), timeout_s=AGAIN_S)

        proxy.black_hole()
        jobs["eeeee"] = ask(stack, engine, "eeeee", MB)
        says(stack, engine, "no answer in time")
        proxy.heal()
        each_done_once(stack, jobs)


# ---- what the engine says and the record does not ----


def handle(stack: Stack, engine: str, id: str) -> str:
    return stack.services.engines[engine].handle(id, stack.job(id).attempt)


def remove_by_hand(stack: Stack, engine: str, id: str, *, files: bool = False) -> None:
    """As somebody does who uses the engine's own pages."""
    name = handle(stack, engine, id)
    if engine == "aria2":
        stack.rpc("forceRemove", name)
        eventually(lambda: stack.rpc("removeDownloadResult", name) == "OK", "aria2 forgets it")
    else:
        [row] = stack.qbittorrent.rows(tag=name)
        stack.qbittorrent.ask("torrents/delete", hashes=row["hash"], deleteFiles=str(files).lower())


def stop_by_hand(stack: Stack, engine: str, id: str, *, start: bool = False) -> None:
    name = handle(stack, engine, id)
    if engine == "aria2":
        assert stack.rpc("unpause" if start else "forcePause", name) == name
    else:
        [row] = stack.qbittorrent.rows(tag=name)
        stack.qbittorrent.ask("torrents/resume" if start else "torrents/pause", hashes=row["hash"])


@fault(
    "Somebody removes, stops and starts downloads at the engine itself",
    provoked="its own RPC or pages: a running job removed (qBittorrent: with its files, too), another one stopped, a paused one started",
    holds="the running ones go on as the same attempt and end; the paused one stands still; each correction is counted",
)
def test_what_is_done_by_hand_at_an_engine_is_put_right(stack: Stack, engine: str) -> None:
    size = RATE * 6
    names = ("a", "bb", "ccc", "dddd")
    removed, deleted, stopped, paused = ids = [ask(stack, engine, name, 2 * size if name == "dddd" else size) for name in names]
    for name in names:
        eventually(lambda: served(stack, name) > RATE, "it runs", seen=stack.tail)  # noqa: B023
    stack.act(paused, "pause")
    stack.until(paused, "paused")
    remove_by_hand(stack, engine, removed)
    remove_by_hand(stack, engine, deleted, files=True)
    stop_by_hand(stack, engine, stopped)
    stop_by_hand(stack, engine, paused, start=True)
    eventually(lambda: put_right(stack, "stop") == 1, "it is stopped again", seen=stack.tail)
    stood = served(stack, "dddd")

    for id, name in zip(ids[:3], names, strict=False):
        stack.until(id, "done", timeout_s=AGAIN_S)
        check(stack, id, name, size)
        assert stack.job(id).attempt == 1
        assert stack.told(id) == DONE
    assert served(stack, "a") <= size + SLACK_BYTES + RATE
    assert served(stack, "ccc") <= size + SLACK_BYTES
    assert stack.job(paused).state is State.PAUSED
    assert served(stack, "dddd") <= stood + RATE, "it stood still"
    stack.act(paused, "resume")
    stack.until(paused, "done", timeout_s=AGAIN_S)
    check(stack, paused, "dddd", 2 * size)
    assert [put_right(stack, kind) for kind in ("resubmit", "resume", "stop", "orphan")] == [2, 1, 1, 0]


def add_by_hand(stack: Stack, engine: str, directory: Path, name: str, gid: str) -> str:
    """Make the engine have a download that nobody asked for; what it is known by there."""
    directory.mkdir(parents=True, exist_ok=True)
    if engine == "aria2":
        uri = stack.origin.url(f"file/{name}?size=20000000&rate=1000")
        assert stack.rpc("addUri", [uri], {"dir": str(directory), "gid": gid}) == gid
        return gid
    magnet = f"magnet:?xt=urn:btih:{gid.rjust(40, '0')}&dn={name}"
    stack.qbittorrent.ask("torrents/add", urls=magnet, savepath=str(directory), tags=f"haul-{gid}" if ".haul" in str(directory) else "mine")
    tag = f"haul-{gid}" if ".haul" in str(directory) else "mine"
    eventually(lambda: stack.qbittorrent.knows(tag), "it has it")
    return tag


@fault(
    "An engine has downloads that no record asks for",
    provoked="an item of ours without a record, one of an attempt that is over, and one of somebody else, added at the engine itself",
    holds="the first two are removed after two looks and counted; the last is left alone, and the overview shows that there is one",
)
def test_items_without_a_record_are_removed_and_those_of_others_left(stack: Stack, engine: str, tmp_path: Path) -> None:
    [first] = stack.workers
    done = ask(stack, engine, "d", MB, rate=0)
    check(stack, done, "d", MB)
    first.stop()
    orphan = add_by_hand(stack, engine, stack.work_directory("f" * 24) / engine, "o", "0123456789abcdef")
    late = add_by_hand(stack, engine, stack.work_directory(done) / engine, "l", handle(stack, engine, done).removeprefix("haul-"))
    foreign = add_by_hand(stack, engine, tmp_path / "elsewhere", "f", "fedcba9876543210")
    stack.work()

    eventually(lambda: not stack.engines[engine].knows(orphan), "the orphan is removed", seen=stack.tail)
    eventually(lambda: not stack.engines[engine].knows(late), "what is over is removed", seen=stack.tail)
    eventually(lambda: view(stack, engine)["foreign"] == 1, "it is reported", seen=lambda: view(stack, engine))
    assert stack.engines[engine].knows(foreign)
    assert (put_right(stack, "orphan"), put_right(stack, "forget")) == (1, 1)
    assert stack.job(done).state is State.DONE
    assert (stack.downloads / done / "d").is_file()


@fault(
    "An answer to an order is lost, and its record says for half a minute that it is still to be handed over",
    provoked="the process dies between the order and the record; the next one comes when no order may be given",
    holds="what the engine has is adopted and delivered, without a second order",
)
def test_what_an_engine_was_given_by_a_dead_process_is_adopted(tmp_path: Path) -> None:
    with Stack(tmp_path / "s") as stack:
        first = stack.work(HAUL_FAILPOINT="start.submitted:kill:1")
        id = ask(stack, "aria2", "x", RATE * 40)
        eventually(lambda: first.ended() is not None, "it dies", seen=stack.tail)
        stack.work(ready=False)
        stack.until(id, "downloading", timeout_s=60)
        eventually(lambda: put_right(stack, "adopt") == 1, "it is counted", seen=lambda: story(stack.job(id)))
        stack.until(id, "done", timeout_s=AGAIN_S)
        check(stack, id, "x", RATE * 40)
        assert stack.origin.requests["/file/x"] == 1


# ---- another password ----


def restarted(stack: Stack, engine: str, secret: str) -> None:
    """The engine anew, with this password, under the same address."""
    old = stack.engines[engine].server
    kill(old)
    port = int(old.url.rpartition("@")[2].partition("/")[0].rpartition(":")[2])
    begun: dict[str, Any] = {"slots": stack.slots, "port": port, "secret": secret}
    if engine == "aria2":
        server = start_aria2c(aria2c_program(), stack.directory, stack.downloads, **begun)
    else:
        server = start_qbittorrent(qbittorrent_program(), stack.directory, stack.downloads, discovery=False, **begun)
    stack._held.callback(server.stop)
    stack.engines[engine].server = server


def password(server: Server) -> str:
    """The one it was started with."""
    return server.url.rpartition("@")[0].rpartition(":")[2]


@fault(
    "The password of an engine is changed while a job runs on it",
    provoked="it is started again with another one (qBittorrent: after it was changed by its API), later with the old one",
    holds="it is said once, in words; qBittorrent is asked for a login once, so that it bans nobody; the other engine's jobs end; with "
    "the right password (qBittorrent: and a restart of the worker) the job ends as the same attempt",
)
def test_a_changed_password_is_said_once_and_heals(tmp_path: Path, engine: str) -> None:
    other = next(name for name in ENGINES if name != engine)
    with Stack(tmp_path / "s", engines=ENGINES) as stack:
        worker = stack.work()
        jobs = {"a": running(stack, engine, "a", SIZES["a"])}
        right = password(stack.engines[engine].server)
        if engine == "qbittorrent":
            stack.qbittorrent.ask("app/setPreferences", json=json.dumps({"web_ui_password": "another password"}))
        restarted(stack, engine, "another")

        says(stack, engine, "secret is wrong" if engine == "aria2" else "password is wrong")
        jobs["bb"] = ask(stack, other, "bb", MB)
        stack.until(jobs["bb"], "done")
        looks = {stack.services.coordinator.snapshots()[engine].at}
        eventually(lambda: len(looks) > 4 or looks.add(stack.services.coordinator.snapshots()[engine].at), "it is looked at again")
        said = [line for line in stack.tail(10_000).splitlines() if "cannot be looked at" in line and "wrong" in line]
        assert len(said) == 1, said
        if engine == "qbittorrent":
            lines = [line["message"] for line in stack.qbittorrent.ask("log/main")]
            assert len([line for line in lines if "login failure" in line]) == 1, lines

        restarted(stack, engine, right)
        if engine == "qbittorrent":
            assert worker.stop() == 0
            stack.work()
        stack.until_all(list(jobs.values()), timeout_s=AGAIN_S)
        for name, id in jobs.items():
            check(stack, id, name, SIZES.get(name, MB))
            assert stack.job(id).attempt == 1, story(stack.job(id))
