"""Two engines at work that take all they get, and what they say they are held to."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tests.contract.peer import Peer
from tests.e2e.engines import Qbittorrent
from tests.e2e.stack import Stack
from tests.origin import content
from tests.torrents import pack
from worker.supervision.bandwidth.regulation import LEAST, MOST

MIB = 1 << 20
BUDGET = 4 * MIB
#: More than is fetched in the whole test.
SIZE = 300 * MIB


@contextmanager
def at_work(stack: Stack, size: int = SIZE) -> Iterator[tuple[str, str]]:
    """A download on aria2 and one on qBittorrent, which take all they get; their jobs."""
    one = stack.ask(f"file/one.bin?size={size}&seed=1", "ann")
    made = pack({"only": content(size, 2)}, name="two.bin", single=True)
    two = stack.ask_all([{"uri": stack.origin.document("two.torrent", made.document), "user": "bob", "engine": "qbittorrent"}])[0]
    qbittorrent = stack.engines["qbittorrent"]
    assert isinstance(qbittorrent, Qbittorrent)
    # From a peer it comes evenly; a web seed gives megabytes at once and then nothing for seconds.
    with closing(Peer(made, qbittorrent.ask("app/preferences")["listen_port"])):
        yield one, two


def limits(stack: Stack, *ids: str) -> list[int]:
    """What the engines say of these downloads; see `about`."""
    jobs = [stack.job(id) for id in ids]
    return [stack.engines[job.transfer.engine].limited(stack.gid(job)) if job.transfer else -1 for job in jobs]


def parts(stack: Stack) -> list[float]:
    """What of the budget aria2, and qBittorrent, is told; see `about`."""
    return [stack.engines[name].throttled() / BUDGET for name in ("aria2", "qbittorrent")]


def about(told: float, part: float) -> bool:
    """Whether an engine that is told so may take this part, which it is to come to, and no factor more."""
    return LEAST * part <= told <= MOST * part


def held(stack: Stack, part: float, *ids: str) -> bool:
    """Whether each of these downloads may take this part, as the engines say."""
    return all(about(limit, part) for limit in limits(stack, *ids))


def fetched(stack: Stack, *ids: str) -> list[int]:
    """Bytes of each job by now, as the engine of the job says itself, past what owners show."""
    jobs = [stack.job(id) for id in ids]
    polls = {name: stack.services.engines[name].poll().items for name in stack.engines}
    return [polls[job.transfer.engine][stack.gid(job)].progress.done if job.transfer else 0 for job in jobs]


def rates(stack: Stack, seconds: float, *ids: str) -> list[float]:
    """Bytes a second of each job over the next seconds."""
    before, begun = fetched(stack, *ids), time.monotonic()
    time.sleep(seconds)
    after, took = fetched(stack, *ids), time.monotonic() - begun
    return [(now - then) / took for then, now in zip(before, after, strict=True)]
