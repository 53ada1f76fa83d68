"""One download for several users, and what goes wrong on its way from one to the other.

A dead holder's lease ends by itself after half a minute; the scenarios wait for that together.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.e2e.engines import aria2c_program, qbittorrent_program
from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually
from tests.faults.catalogue import fault
from tests.faults.deaths import RECOVERY_S, dying, taken_over, together
from tests.faults.downloads import DONE, RATE, served
from tests.origin import content
from tests.torrents import pack, web_seeded
from worker.cli.servers import Server, start_aria2c
from worker.cli.servers.qbittorrent import start_qbittorrent
from worker.jobs.errors import Conflict
from worker.jobs.states import State

USERS = 5
SIZE = RATE * 3
SHARED = ["job.queued", "job.completed"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Server]]:
    """Engines for many small stacks."""
    aria2, qbittorrent = (tmp_path_factory.mktemp(name) for name in ("aria2", "qbittorrent"))
    started = {
        "aria2": start_aria2c(aria2c_program(), aria2, aria2, slots=32),
        "qbittorrent": start_qbittorrent(qbittorrent_program(), qbittorrent, qbittorrent, slots=32, discovery=False),
    }
    yield started
    for server in started.values():
        server.stop()


def ask(stack: Stack, engine: str, name: str, path: str | None = None) -> list[str]:
    """The same content for five users of this engine: a file with its checksum, or a torrent."""
    users = [f"{name}-{n}" for n in range(USERS)]
    if engine == "aria2":
        uri = path or f"file/{name}?size={SIZE}&seed=1&rate={RATE}"
        return stack.ask_all([{"uri": uri, "user": user, "sha256": digest(SIZE, 1)} for user in users])
    made = web_seeded(stack.origin, pack({name: content(SIZE, 1)}, name=name, single=True), rate=RATE)
    document = base64.b64encode(made.document).decode()
    return stack.ask_all([{"uri": None, "torrent": document, "user": user} for user in users])


def led(stack: Stack, ids: list[str], name: str) -> tuple[str, list[str]]:
    """Who downloads, once some of it is here and the others wait for it."""
    eventually(lambda: sum(bool(job.following) for job in stack.services.store.get(ids).values()) == USERS - 1, "they wait", RECOVERY_S)
    eventually(lambda: served(stack, name) > 100_000, "some of it is here", RECOVERY_S, stack.tail)
    [leader] = [id for id in ids if not stack.job(id).following]
    stack.until(leader, "downloading", timeout_s=RECOVERY_S)
    return leader, [id for id in ids if id != leader]


def delivered(stack: Stack, ids: list[str], name: str) -> None:
    """Each has his file and was told so once, and it was downloaded once."""
    stack.until_all(ids, timeout_s=RECOVERY_S)
    for id in ids:
        stack.check_delivered(id, digest(SIZE, 1), name)
        told = stack.told(id, RECOVERY_S)
        assert told in (DONE, SHARED), told
    assert served(stack, name) <= SIZE + SLACK_BYTES, "it was downloaded once"


def dies_while_it_links(point: str, engine: str, directory: Path, servers: Mapping[str, Server]) -> None:
    name = directory.name
    with Stack(directory, engines=(engine,), servers=servers) as stack:
        with dying(stack, point):
            ids = ask(stack, engine, name)
        taken_over(stack)
        delivered(stack, ids, name)


def dies_while_it_hands_over(point: str, action: str, engine: str, directory: Path, servers: Mapping[str, Server]) -> None:
    name = directory.name
    with Stack(directory, engines=(engine,), servers=servers) as stack:
        with dying(stack, point):
            leader, others = led(stack, ask(stack, engine, name), name)
            stack.act(leader, action)
        taken_over(stack)

        stack.until(leader, "cancelled" if action == "cancel" else "paused", timeout_s=RECOVERY_S)
        delivered(stack, others, name)
        assert stack.told(leader, RECOVERY_S)[-1] == ("job.cancelled" if action == "cancel" else "job.paused")
        assert not (stack.downloads / leader).exists()
        if action == "pause":
            stack.act(leader, "cancel")
            stack.until(leader, "cancelled")


def dies_while_it_lets_them_go(directory: Path, servers: Mapping[str, Server]) -> None:
    """The one download fails, and the worker dies when the others are recorded as waiting for their turn."""
    with Stack(directory, servers=servers) as stack:
        with dying(stack, "share.released"):
            ids = ask(stack, "aria2", directory.name, "status/404")
        taken_over(stack)
        stack.until_all(ids, "failed", RECOVERY_S)
        assert {stack.told(id, RECOVERY_S)[-1] for id in ids} == {"job.failed"}
        assert stack.services.store.followed() == {}


LINKED = ("finish.intended", "finish.moved", "share.joined", "finish.recorded", "finish.deleted")
HANDED = ("share.handed", "share.left")
KINDS = ("aria2", "qbittorrent")


@fault(
    "A worker dies while one download becomes the files of five users",
    provoked=f"kill -9 at {', '.join(LINKED)}; a file and a torrent",
    holds="the next worker goes on: each has his file and is told so once; it was downloaded once, and nothing is left elsewhere",
)
@pytest.mark.timeout(300)
def test_everybody_has_his_file_though_the_worker_dies_while_they_are_linked(tmp_path: Path, servers: Mapping[str, Server]) -> None:
    together(
        {
            f"{point} {engine}": lambda point=point, engine=engine: dies_while_it_links(
                point, engine, tmp_path / f"{point}-{engine}", {engine: servers[engine]}
            )
            for point in LINKED
            for engine in KINDS
        }
    )


@fault(
    "A worker dies while the download of one user, who cancels or pauses it, is given to another one who waits for it",
    provoked=f"kill -9 at {', '.join(HANDED)}, between the two records and behind them; a file and a torrent",
    holds="one of the two goes on with it where it was: the first is cancelled or paused, the others have their files",
)
@pytest.mark.timeout(300)
def test_a_download_is_handed_over_once_though_the_worker_dies_between(tmp_path: Path, servers: Mapping[str, Server]) -> None:
    together(
        {
            f"{point} {action} {engine}": lambda point=point, action=action, engine=engine: dies_while_it_hands_over(
                point, action, engine, tmp_path / f"{point}-{action}-{engine}", {engine: servers[engine]}
            )
            for point in HANDED
            for action in ("cancel", "pause")
            for engine in KINDS
        }
        | {"share.released": lambda: dies_while_it_lets_them_go(tmp_path / "released", {"aria2": servers["aria2"]})}
    )


@fault(
    "Five users of one download cancel it at the moment it is complete",
    provoked="every second one cancels when the last bytes arrive; ten rounds",
    holds="who was told that it is cancelled has no file, everybody else has his, and nobody is lost",
)
def test_who_cancels_when_it_is_complete_has_it_or_not_and_takes_it_from_nobody(tmp_path: Path, servers: Mapping[str, Server]) -> None:
    with Stack(tmp_path / "race", servers={"aria2": servers["aria2"]}) as stack:
        stack.work()
        for turn in range(10):
            ids = ask(stack, "aria2", f"race-{turn}", f"file/race-{turn}?size={SIZE}&seed=1&rate={RATE * 6}")
            stack.until_bytes(f"/file/race-{turn}", SIZE - RATE // (turn + 1))
            for id in ids[::2]:
                if stack.job(id).state is not State.DONE:
                    with contextlib.suppress(Conflict):  # it was placed at this very moment
                        stack.act(id, "cancel")
            stack.until_all(ids[1::2])
            for id in ids:
                job = stack.until(id, "done", "cancelled")
                if job.state is State.DONE:
                    stack.check_delivered(id, digest(SIZE, 1))
                else:
                    assert not (stack.downloads / id).exists()
