"""qBittorrent's rows as items: the states of 4.5 and of 5.x, and what they do not say."""

from __future__ import annotations

from typing import Any

import pytest

from worker.engines.qbittorrent import faults
from worker.engines.qbittorrent.faults import reason
from worker.engines.qbittorrent.rows import items, stopped, tag
from worker.engines.qbittorrent.view import merged
from worker.jobs.model import Progress
from worker.jobs.states import Cause, Phase
from worker.ports import Item, ItemStatus

DIRECTORY = "/downloads/.haul/t1/qb"
#: What 4.5.2 sends of a torrent, without what is not looked at.
ROW: dict[str, Any] = {
    "amount_left": 600,
    "completed": 400,
    "dlspeed": 50,
    "infohash_v1": "a" * 40,
    "infohash_v2": "",
    "num_leechs": 2,
    "num_seeds": 1,
    "progress": 0.4,
    "ratio": 0.5,
    "ratio_limit": 0,
    "save_path": DIRECTORY,
    "seeding_time": 5,
    "seeding_time_limit": -1,
    "size": 1000,
    "state": "downloading",
    "tags": "haul-0123456789abcdef",
    "total_size": 1200,
    "uploaded": 7,
}
WHOLE = {"progress": 1, "completed": 1000, "amount_left": 0}


def item(**changes: Any) -> Item:
    (item,) = items({"a" * 40: {**ROW, **changes}}, "/downloads", "qb", {}).values()
    return item


def test_a_row_is_an_item_under_its_tag() -> None:
    assert item() == Item("haul-0123456789abcdef", ItemStatus.RUNNING, "t1", Progress(400, 1000, 50, 7, 3), Phase.TRANSFER)


@pytest.mark.parametrize(
    ("state", "status", "phase"),
    [
        ("metaDL", ItemStatus.RUNNING, Phase.METADATA),
        ("forcedMetaDL", ItemStatus.RUNNING, Phase.METADATA),
        ("checkingResumeData", ItemStatus.RUNNING, Phase.CHECKING),
        ("checkingDL", ItemStatus.RUNNING, Phase.CHECKING),
        ("checkingUP", ItemStatus.RUNNING, Phase.CHECKING),
        ("moving", ItemStatus.RUNNING, Phase.CHECKING),
        ("allocating", ItemStatus.RUNNING, Phase.CHECKING),
        ("downloading", ItemStatus.RUNNING, Phase.TRANSFER),
        ("stalledDL", ItemStatus.RUNNING, Phase.TRANSFER),
        ("forcedDL", ItemStatus.RUNNING, Phase.TRANSFER),
        ("queuedDL", ItemStatus.WAITING, None),
        ("unknown", ItemStatus.WAITING, None),
        ("a state of the future", ItemStatus.WAITING, None),
        ("pausedDL", ItemStatus.PAUSED, None),
        ("stoppedDL", ItemStatus.PAUSED, None),
        ("pausedUP", ItemStatus.PAUSED, None),
        ("stoppedUP", ItemStatus.PAUSED, None),
        ("uploading", ItemStatus.WAITING, None),
        ("error", ItemStatus.FAILED, None),
        ("missingFiles", ItemStatus.FAILED, None),
    ],
)
def test_each_state_of_what_is_not_whole(state: str, status: ItemStatus, phase: Phase | None) -> None:
    shown = item(state=state)
    assert (shown.status, shown.phase, shown.fault is not None) == (status, phase, status is ItemStatus.FAILED)
    assert stopped({**ROW, "state": state}) is (status is ItemStatus.PAUSED)


@pytest.mark.parametrize("state", ["uploading", "stalledUP", "forcedUP", "queuedUP", "pausedUP", "stoppedUP"])
def test_what_is_whole_is_complete_and_its_average_speed_is_none_any_more(state: str) -> None:
    shown = item(state=state, **WHOLE)
    assert (shown.status, shown.progress.speed, shown.seeding) == (ItemStatus.COMPLETE, 0, False)


@pytest.mark.parametrize("state", ["checkingUP", "checkingResumeData", "moving", "error", "missingFiles"])
def test_what_is_whole_and_looked_at_or_moved_or_lost_is_not_complete(state: str) -> None:
    assert item(state=state, **WHOLE).status is not ItemStatus.COMPLETE


def test_progress_that_was_rounded_up_is_not_complete() -> None:
    assert item(state="stalledUP", progress=1, amount_left=1).status is not ItemStatus.COMPLETE


@pytest.mark.parametrize(
    ("limits", "seeding"),
    [
        ({"ratio_limit": 0, "ratio": 0}, False),
        ({"ratio_limit": 1.0, "ratio": 0.99}, True),
        ({"ratio_limit": 1.0, "ratio": 1.0}, False),
        ({"ratio_limit": 1.0, "ratio": -1}, False),
        ({"ratio_limit": 1.0, "ratio": 0, "seeding_time_limit": 1, "seeding_time": 59}, True),
        ({"ratio_limit": 1.0, "ratio": 0, "seeding_time_limit": 1, "seeding_time": 60}, False),
        ({"ratio_limit": -2, "ratio": 5, "seeding_time_limit": -2}, True),
        ({"ratio_limit": 1.0, "ratio": 0, "state": "stoppedUP"}, False),
    ],
)
def test_it_seeds_until_a_limit_is_reached(limits: dict[str, Any], seeding: bool) -> None:
    assert item(**{"state": "stalledUP", **WHOLE, **limits}).seeding is seeding


@pytest.mark.parametrize("size", [{"size": 0, "total_size": -1}, {"size": -1, "total_size": 0}])
def test_the_size_is_unknown_until_the_description_is_there(size: dict[str, int]) -> None:
    shown = item(state="metaDL", completed=0, **size)
    assert (shown.progress.done, shown.progress.total) == (0, None)
    assert item(state="stalledUP", progress=1, amount_left=0, **size).status is not ItemStatus.COMPLETE


@pytest.mark.parametrize(
    ("tags", "path", "handle", "transfer"),
    [
        ("films, haul-1, x", DIRECTORY + "/", "haul-1", "t1"),
        ("films,haul-1", DIRECTORY, "haul-1", "t1"),
        ("", "/downloads/films", "a" * 40, None),
        ("films", DIRECTORY, "a" * 40, "t1"),
        ("haul-1", "/elsewhere/.haul/t1/qb", "haul-1", None),
        ("haul-1", "/downloads/.haul/t1/other", "haul-1", None),
        ("haul-1", "/downloads/.haul/a/b/qb", "haul-1", None),
    ],
)
def test_a_handle_is_our_tag_and_a_transfer_is_in_its_place(tags: str, path: str, handle: str, transfer: str | None) -> None:
    shown = item(tags=tags, save_path=path)
    assert (shown.handle, shown.transfer) == (handle, transfer)


def test_a_tag_is_of_the_transfer_and_the_attempt() -> None:
    assert tag("t1", 1) != tag("t1", 2)
    assert len(tag("t1", 1)) == len("haul-") + 16


def test_a_change_is_laid_over_what_is_known_and_a_full_answer_replaces_it() -> None:
    first = merged({}, {"full_update": True, "torrents": {"x": {"state": "metaDL", "size": 1}, "y": {"size": 2}}})
    second = merged(first, {"torrents": {"x": {"state": "downloading"}, "z": {"size": 3}}, "torrents_removed": ["y", "never seen"]})
    assert second == {"x": {"state": "downloading", "size": 1}, "z": {"size": 3}}
    assert first["x"]["state"] == "metaDL"
    assert merged(second, {}) == second
    assert merged(second, {"full_update": True}) == {}


@pytest.mark.parametrize("told", [["1" * 40], []], ids=["4.5", "5.1"])
def test_a_hybrid_is_one_row_when_its_description_has_come_whether_or_not_its_old_name_is_said_to_be_gone(told: list[str]) -> None:
    old, new = "1" * 40, "2" * 40
    first = merged({}, {"full_update": True, "torrents": {old: {"state": "metaDL", "infohash_v1": old, "infohash_v2": "", "tags": "t"}}})
    described = {"state": "downloading", "infohash_v1": old, "infohash_v2": "2" * 64, "tags": "t"}
    assert merged(first, {"torrents": {new: described}, "torrents_removed": told}) == {new: described}
    late = {new: described, old: {"state": "metaDL"}}
    assert merged(first, {"torrents": late}) == {new: described}


LINE = 'File error alert. Torrent: "x". File: "{path}/x". Reason: "x file_write ({path}/x) error: {words}"'


@pytest.mark.parametrize(
    ("words", "passing", "detail"),
    [
        ("No space left on device", True, "there is no space left on the disk"),
        ("File name too long", False, "a name in the torrent is too long for the disk"),
        ("Read-only file system", False, "the disk is read-only"),
        ("something else", False, "qBittorrent stopped with an error of the disk"),
    ],
)
def test_an_error_has_the_cause_that_the_last_line_about_its_directory_says(words: str, passing: bool, detail: str) -> None:
    lines = [
        LINE.format(path=path, words=said) for path, said in ((DIRECTORY, "older"), (DIRECTORY, words), (DIRECTORY + "2", "Is a directory"))
    ]
    fault = reason(DIRECTORY, [{"message": line} for line in lines], 10**12)
    assert (fault.cause, fault.passing, fault.detail) == (Cause.DISK, passing, detail)
    assert "/downloads" not in fault.detail


@pytest.mark.parametrize(("words", "expected"), faults.BY_TEXT)
def test_every_word_of_the_table_is_found_in_a_line(words: str, expected: faults.Fault) -> None:
    line = LINE.format(path=DIRECTORY, words=words)
    assert reason(DIRECTORY, [{"message": line}], None) == expected


def test_an_error_that_the_log_does_not_know_is_judged_by_the_room_on_the_disk() -> None:
    assert reason(DIRECTORY, [], 1000) is faults.FULL
    assert reason(DIRECTORY, [], None) is reason(DIRECTORY, [], 10**12) is faults.UNKNOWN
