"""Twenty users ask for one content: downloaded once by a real engine, delivered to each, cancelled and told each by himself."""

from __future__ import annotations

import base64
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import SLACK_BYTES, Stack, digest, eventually, sha256
from tests.origin import LAST_MODIFIED, content
from tests.torrents import pack, web_seeded
from worker.admission.doors import record
from worker.jobs.model import new_job
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.jobs.states import State
from worker.pipeline import why

USERS = 20
SIZE = 2_000_000
RATE = 400_000
DONE = ["job.queued", "job.started", "job.completed"]
SHARED = ["job.queued", "job.completed"]


def ask_probed(stack: Stack, path: str, users: list[str], **spec: Any) -> list[str]:
    """Jobs whose source told a validator before they are admitted."""
    requests = [parse({"uri": stack.origin.url(path), "user": user, **spec}) for user in users]
    probe = Probe(SIZE, f'"{SIZE}-1"', LAST_MODIFIED)
    jobs = [replace(new_job(request, stack.services.clock.time()), probe=probe) for request in requests]
    record(stack.services, jobs)
    return [job.id for job in jobs]


def led(stack: Stack, ids: list[str]) -> tuple[str, list[str]]:
    """Who downloads, and who waits, once all the others wait for it."""

    def settled() -> bool:
        jobs = stack.services.store.get(ids).values()
        return sorted(job.state for job in jobs) == [State.DOWNLOADING, *[State.QUEUED] * (len(ids) - 1)] and all(
            job.following for job in jobs if job.state is State.QUEUED
        )

    eventually(settled, "one downloads and the others wait for it", seen=lambda: [str(stack.job(id).state) for id in ids])
    [leader] = [id for id in ids if stack.job(id).state is State.DOWNLOADING]
    return leader, [id for id in ids if id != leader]


def test_twenty_users_get_one_file_by_one_download(stack: Stack, user: str) -> None:
    path = f"file/{user}?size={SIZE}&seed=1&rate={RATE}"
    ids = ask_probed(stack, path, [f"{user}-{n}" for n in range(USERS)])
    leader, others = led(stack, ids)
    assert "the same content is downloaded for another request" in why(stack.services, others[0]).text
    late = ask_probed(stack, path, [f"{user}-late"])[0]

    stack.until_all([*ids, late])

    paths = [stack.check_delivered(id, digest(SIZE, 1), user) for id in (*ids, late)]
    assert len({os.stat(path).st_ino for path in paths}) == 1
    assert stack.origin.bytes_served[f"/file/{user}"] == SIZE
    assert stack.origin.requests[f"/file/{user}"] == 1
    assert stack.told(leader) == DONE
    assert {tuple(stack.told(id)) for id in (*others, late)} == {tuple(SHARED)}


def test_each_of_twenty_cancels_for_himself_and_the_first_one_takes_it_from_nobody(stack: Stack, user: str) -> None:
    ids = ask_probed(stack, f"file/{user}?size={SIZE}&seed=1&rate={RATE}", [f"{user}-{n}" for n in range(USERS)])
    leader, others = led(stack, ids)
    stack.until_bytes(f"/file/{user}", 200_000)

    for id in (leader, others[0], others[1]):
        stack.act(id, "cancel")
    for id in (leader, others[0], others[1]):
        stack.until(id, "cancelled")
        assert stack.told(id)[-1] == "job.cancelled"
    paused = others[2]
    stack.act(paused, "pause")
    stack.until(paused, "paused")

    left = others[3:]
    stack.until_all(left)
    for id in left:
        stack.check_delivered(id, digest(SIZE, 1), user)
        assert stack.told(id)[-1] == "job.completed"
    assert stack.origin.bytes_served[f"/file/{user}"] == SIZE, "it went on where it was"
    assert stack.job(paused).state is State.PAUSED
    assert not [id for id in (leader, others[0], others[1], paused) if (stack.downloads / id).exists()]
    stack.cancel_all([paused])


@pytest.mark.parametrize("engine", ["aria2", "qbittorrent"])
def test_twenty_users_get_one_torrent_by_one_download(both: Stack, user: str, engine: str) -> None:
    made = web_seeded(both.origin, pack({user: content(SIZE, 3)}, name=user, single=True), rate=RATE)
    document = base64.b64encode(made.document).decode()
    ids = both.ask_all([{"uri": None, "torrent": document, "user": f"{user}-{n}", "engine": engine} for n in range(USERS)])
    leader, others = led(both, ids)
    magnet = both.ask(made.magnet(), f"{user}-magnet", engine=engine)
    eventually(lambda: both.job(magnet).following, "it waits for the others' download", seen=both.tail)
    both.act(leader, "cancel")
    both.until(leader, "cancelled")

    left = [*others, magnet]
    both.until_all(left, timeout_s=60)

    for id in left:
        assert sha256(both.check_delivered(id, digest(SIZE, 3), user)) == digest(SIZE, 3)
    served = sum(count for path, count in both.origin.bytes_served.items() if path.endswith(f"/{user}"))
    assert served <= SIZE + SLACK_BYTES
    assert both.told(leader)[-1] == "job.cancelled"


def test_a_file_that_is_wanted_elsewhere_is_copied_there(stack: Stack, user: str) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == stack.downloads.stat().st_dev:
        pytest.skip("there is no other file system here")
    there = shm / f"haul-{user}-{os.getpid()}"
    path = f"file/{user}?size={SIZE}&seed=1&rate={RATE}"
    ids = ask_probed(stack, path, ["ann"])
    stack.until_bytes(f"/file/{user}", 100_000)
    request = replace(parse({"uri": stack.origin.url(path), "user": "bob", "out": str(there)}, owner=True), guarded=True)
    job = replace(new_job(request, stack.services.clock.time()), probe=stack.job(ids[0]).probe)
    record(stack.services, [job])
    try:
        done = stack.until(job.id, "done")
        assert done.result is not None
        assert Path(done.result.path).parent == there
        assert sha256(done.result.path) == digest(SIZE, 1)
        assert stack.origin.bytes_served[f"/file/{user}"] == SIZE
        stack.check_delivered(ids[0], digest(SIZE, 1))
    finally:
        for left in there.glob("*"):
            left.unlink()
        there.rmdir()
