"""Torrents that are at the engine already."""

from __future__ import annotations

import base64
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.e2e.stack import Stack, eventually, story
from tests.e2e.torrents.cases import ENGINES, each
from tests.e2e.torrents.doors import Asked, check_in_place, upload
from tests.origin import content
from tests.torrents import Pack, pack, web_seeded
from worker import pipeline
from worker.jobs.states import Reason


@each
def test_a_torrent_that_the_engine_has_for_another_job_waits_for_it(
    both: Stack, twice: dict[str, tuple[Asked, Asked]], engine: str
) -> None:
    for asked in twice[engine]:
        check_in_place(both, asked)

    jobs = [both.job(asked.id) for asked in twice[engine]]
    waited = [job for job in jobs if any("for another job" in event.text for event in job.events)]
    assert len(waited) == 1, [story(job) for job in jobs]
    assert [job.attempt for job in jobs] == [1, 1]


def test_a_waiting_duplicate_says_so_and_can_be_paused_resumed_and_cancelled(both: Stack, user: str) -> None:
    made = web_seeded(both.origin, pack({"large.bin": content(3_000_000, 1)}, name=user), rate=100_000)
    for engine in ENGINES:
        first = both.ask(None, user, torrent=upload(made), engine=engine)
        both.until(first, "downloading")
        second = both.ask(None, f"{user}-2", torrent=upload(made), engine=engine, select="1")
        eventually(lambda: both.job(second).reason is Reason.DUPLICATE, "it waits", seen=lambda: story(both.job(second)))  # noqa: B023
        assert "another job" in pipeline.why(both.services, second).text
        assert both.act(second, "pause").state == "paused"
        assert both.act(second, "resume").state == "queued"
        both.act(second, "cancel")
        both.until(second, "cancelled")
        assert both.job(first).state == "downloading"
        both.cancel_all([first])
        both.check_gone(both.job(second))


@each
def test_a_torrent_that_was_added_by_hand_is_left_alone_and_the_user_is_told(both: Stack, user: str, tmp_path: Path, engine: str) -> None:
    made = web_seeded(both.origin, pack(name=user))
    with by_hand(both, engine, replace(made, web_seeds=()), tmp_path):
        id = both.ask(None, user, torrent=upload(made), engine=engine)
        if engine == "aria2":  # which does not say whose it is: the job waits for it as for another job's
            eventually(lambda: both.job(id).reason is Reason.DUPLICATE, "it waits", seen=lambda: story(both.job(id)))
            both.act(id, "cancel")
            return
        assert "by hand" in (both.until(id, "failed").message or "")

    both.act(id, "retry")
    check_in_place(both, Asked(id, made))


def by_hand(stack: Stack, engine: str, made: Pack, directory: Path) -> ExitStack:
    """The torrent is at the engine, in another directory; removed at the end of the block."""
    held = ExitStack()
    if engine == "aria2":
        gid = stack.rpc("addTorrent", base64.b64encode(made.document).decode(), [], {"dir": str(directory)})
        eventually(lambda: stack.rpc("tellStatus", gid, ["status"]) == {"status": "active"}, "it is there")
        held.callback(stack.rpc, "removeDownloadResult", gid)
        held.callback(stack.rpc, "forceRemove", gid)
    else:
        stack.qbittorrent.ask("torrents/add", {"torrents": ("x.torrent", made.document)}, savepath=str(directory), paused="true")
        eventually(lambda: any(row["hash"] == made.v1 for row in stack.qbittorrent.rows()), "it is there")
        held.callback(stack.qbittorrent.ask, "torrents/delete", hashes=str(made.v1), deleteFiles="true")
    return held
