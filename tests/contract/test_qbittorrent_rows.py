"""What qBittorrent does and its manual does not say, each shown on the adapter and a real qbittorrent-nox.

The numbers are the rows of the engine notes (qBittorrent). Shown by the contract suites and not again here: 3 (the hash of a
hybrid changes), 4 (an answer of "Fails." for a torrent that is there), 12 (unknown hashes), 415 for a broken document. In the
unit tests: 1 (5.x), 7 (states), files whose names are alike. Not an adapter's business: 15 (announcing again), 16 (memory and
disk IO are settings of the server). 8 (`completion_on`) is not looked at.
"""

from __future__ import annotations

import os
import secrets
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.counting import Counting
from tests.contract.engine_suite import SIZE, SLOW, submitted, until, until_begun, until_over, until_status
from tests.contract.qbittorrent import SLOTS, QbittorrentHarness
from tests.contract.torrent_suite import below, found, torrent_order
from tests.origin import Origin, content
from tests.torrents import FILES
from worker.cli.servers import free_port
from worker.engines.qbittorrent.engine import QbittorrentEngine
from worker.engines.qbittorrent.orders import parameters
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause
from worker.ports import ItemStatus, Order, Poll

LOGIN, LOOK = "/api/v2/auth/login", "/api/v2/sync/maindata"


@pytest.fixture
def counting(qbittorrent: QbittorrentHarness) -> Iterator[Counting]:
    with Counting(qbittorrent.port) as counting:
        yield counting


def said_by(engine: QbittorrentEngine) -> str:
    """What a poll that fails says."""
    with pytest.raises(Transient) as refused:
        engine.poll()
    assert refused.value.service == "engine qbittorrent"
    return str(refused.value)


def added_by_hand(harness: QbittorrentHarness, document: bytes, **more: object) -> None:
    assert harness.call("torrents_add", torrent_files=document, save_path=str(harness.downloads / "by hand"), **more) == "Ok."


# ---- the way to it ----


def test_row_2_a_wrong_password_is_tried_once_however_often_the_engine_is_asked(
    qbittorrent: QbittorrentHarness, counting: Counting
) -> None:
    wrong = qbittorrent.another("no-such-password", counting.port)
    order = qbittorrent.order("locked", size=1000)
    said = [said_by(wrong) for _ in range(3)]
    for call in (lambda: wrong.submit([order]), lambda: wrong.pause(["x"]), lambda: wrong.remove(["x"]), lambda: wrong.files("x")):
        with pytest.raises(Transient) as refused:
            call()
        said.append(str(refused.value))
        assert "no-such-password" not in "".join(traceback.format_exception(refused.value))
    wrong.close()
    assert set(said) == {said[0]}
    assert "user or password is wrong" in said[0]
    assert "correct HAUL_ENGINES and restart" in said[0]
    assert counting.requests == {LOGIN: 1}
    assert qbittorrent.another().poll().items == {}, "others are not banned"


def test_row_2_a_ban_meets_the_right_password_too_and_not_those_who_are_inside(qbittorrent: QbittorrentHarness, counting: Counting) -> None:
    qbittorrent.engine.poll()
    for _ in range(5):
        said_by(qbittorrent.another("wrong"))
    right = qbittorrent.another(port=counting.port)
    assert "banned this machine" in said_by(right)
    assert "banned this machine" in said_by(right)
    assert counting.requests == {LOGIN: 1}
    assert qbittorrent.engine.poll().items == {}


def test_row_2_a_process_logs_in_once_and_looks_with_one_request(qbittorrent: QbittorrentHarness, counting: Counting) -> None:
    engine = qbittorrent.another(port=counting.port)
    assert engine.submit([qbittorrent.order(f"many{n}", size=1000) for n in range(20)]) == [None] * 20
    engine.poll()
    before = counting.requests.copy()
    for _ in range(3):
        assert len(engine.poll().items) == 20
    engine.close()
    assert counting.requests - before == {LOOK: 3}
    assert counting.requests[LOGIN] == 1


def test_a_session_that_ran_out_logs_in_again_once_and_is_another_session(qbittorrent: QbittorrentHarness, counting: Counting) -> None:
    engine = qbittorrent.another(port=counting.port)
    handle = submitted(qbittorrent, qbittorrent.order("stays", size=1000))
    before = engine.poll()
    engine._session.call(engine._deadline(), "auth_log_out")
    after = engine.poll()
    engine.close()
    assert list(after.items) == list(before.items) == [handle]
    assert after.session != before.session
    assert counting.requests[LOGIN] == 2


def test_settings_of_the_library_and_of_proxies_in_the_environment_are_not_followed(
    qbittorrent: QbittorrentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("HOST", "USERNAME", "PASSWORD", "API_KEY"):
        monkeypatch.setenv(f"QBITTORRENTAPI_{name}", "stranger")
    assert qbittorrent.another().poll().items == {}


def test_a_port_without_qbittorrent_is_transient_and_does_not_tell_the_secret(tmp_path: Path) -> None:
    secret = secrets.token_urlsafe(16)
    nobody = QbittorrentEngine("qbittorrent", f"http://127.0.0.1:{free_port()}", "haul", secret, str(tmp_path), 1)
    with pytest.raises(Transient, match="cannot be reached") as refused:
        nobody.poll()
    assert secret not in "".join(traceback.format_exception(refused.value))
    nobody.close()


@pytest.mark.parametrize("path", ["status/404", "redirect/1/status/200", "status/500"])
def test_a_port_where_something_else_answers_is_transient(origin: Origin, tmp_path: Path, path: str) -> None:
    other = QbittorrentEngine("qbittorrent", origin.url(path), "haul", "secret", str(tmp_path), 1)
    assert "HAUL_ENGINES" in said_by(other) or "status 50" in said_by(other)
    other.close()


def test_the_preferences_that_slots_rest_on_are_set_once_a_session_and_the_guards_stay(qbittorrent: QbittorrentHarness) -> None:
    theirs = {"max_active_downloads": 3, "max_active_torrents": 5, "max_active_uploads": 3, "queueing_enabled": False, "max_ratio_act": 1}
    qbittorrent.call("app_set_preferences", prefs=theirs)
    qbittorrent.engine.poll()
    shown = qbittorrent.call("app_preferences")
    ours = {
        "max_active_downloads": SLOTS,
        "max_active_torrents": -1,
        "max_active_uploads": -1,
        "queueing_enabled": True,
        "max_ratio_act": 0,
    }
    assert {name: shown[name] for name in ours} == ours
    guards = ("ssrf_mitigation", "web_ui_host_header_validation_enabled", "web_ui_csrf_protection_enabled")
    assert [shown[name] for name in guards] == [True] * 3
    qbittorrent.call("app_set_preferences", prefs={"max_active_downloads": 3})
    qbittorrent.engine.poll()
    assert qbittorrent.call("app_preferences")["max_active_downloads"] == 3


def test_its_password_is_in_no_argument_and_in_no_file(qbittorrent: QbittorrentHarness) -> None:
    command = Path("/proc", str(qbittorrent.pid), "cmdline").read_bytes()
    assert b"--profile=" in command
    assert qbittorrent.secret.encode() not in command
    qbittorrent.stop()
    assert (qbittorrent.profile / "qBittorrent").stat().st_mode & 0o077 == 0
    files = [path for path in qbittorrent.profile.rglob("*") if path.is_file()]
    assert qbittorrent.profile / "qBittorrent" / "config" / "qBittorrent.conf" in files
    assert not [path for path in files if qbittorrent.secret.encode() in path.read_bytes()]


# ---- adding ----


def test_rows_5_and_14_tag_category_place_and_limits_are_those_of_the_order(qbittorrent: QbittorrentHarness) -> None:
    order = replace(qbittorrent.order("options", size=1000), category="films", seed_ratio=1.5, seed_time_s=90.0)
    row = qbittorrent.row(submitted(qbittorrent, order))
    expected = {"category": "films", "auto_tmm": False, "save_path": order.directory, "ratio_limit": 1.5, "seeding_time_limit": 2}
    assert {name: row[name] for name in expected} == expected
    assert row["tags"] == qbittorrent.engine.handle("options", 1)
    other = replace(qbittorrent.order("no limits", size=1001), category="not//a category")
    row = qbittorrent.row(submitted(qbittorrent, other))
    assert (row["category"], row["ratio_limit"], row["seeding_time_limit"]) == ("", 0, -1)


def test_row_14_what_does_not_seed_is_over_at_once_though_qbittorrent_takes_ten_seconds_to_stop_it(
    qbittorrent: QbittorrentHarness,
) -> None:
    handle = submitted(qbittorrent, qbittorrent.order("over", size=1000))
    item = until_status(qbittorrent, handle, ItemStatus.COMPLETE)
    assert qbittorrent.row(handle)["state"] == "stalledUP"
    assert not item.seeding


def test_row_4_a_torrent_that_somebody_added_by_hand_is_left_alone(qbittorrent: QbittorrentHarness) -> None:
    made = qbittorrent.pack()
    added_by_hand(qbittorrent, made.document)
    orders = [
        torrent_order(qbittorrent.engine, "document", made.document),
        *(
            Order(f"magnet{n}", 1, Source(SourceKind.MAGNET, uri), str(qbittorrent.downloads / f"m{n}"))
            for n, uri in enumerate((made.magnet(), made.magnet(btih="base32")))
        ),
    ]
    for fault in qbittorrent.engine.submit(orders):
        assert fault is not None
        assert (fault.cause, fault.passing, fault.elsewhere, fault.wait) == (Cause.ENGINE, False, True, None)
        assert "by hand" in fault.detail
    (item,) = qbittorrent.engine.poll().items.values()
    assert (item.handle, item.transfer) == (made.v1, None)
    assert qbittorrent.call("torrents_info")[0]["tags"] == ""


@pytest.mark.parametrize(
    "uri",
    [
        "magnet:?xt=urn:btih:zz",
        "magnet:?dn=nothing",
        "magnet:?xt=urn:btih:" + "a" * 40 + "\nhttp://127.0.0.1/x.torrent",
        "http://127.0.0.1/x.torrent",
    ],
)
def test_row_4_what_is_no_magnet_link_is_never_given_to_it(qbittorrent: QbittorrentHarness, uri: str) -> None:
    order = Order("none", 1, Source(SourceKind.MAGNET, uri), str(qbittorrent.downloads / "none"))
    (fault,) = qbittorrent.engine.submit([order])
    assert fault is not None
    assert (fault.cause, fault.passing) == (Cause.SOURCE, False)
    assert qbittorrent.call("torrents_info") == []


def test_what_was_added_and_not_begun_by_a_process_that_died_is_brought_to_its_end(qbittorrent: QbittorrentHarness) -> None:
    order = torrent_order(qbittorrent.engine, "begun", qbittorrent.pack().document, select=(2,))
    handle = qbittorrent.engine.handle("begun", 1)
    assert qbittorrent.call("torrents_add", **parameters(order, handle, stopped=True)) == "Ok."
    until_status(qbittorrent, handle, ItemStatus.PAUSED)
    submitted(qbittorrent, order)
    until_over(qbittorrent, handle)
    assert found(qbittorrent, order) == {"pack/sub/b.bin": FILES["sub/b.bin"]}


def test_an_attempt_whose_tag_was_taken_away_is_continued(qbittorrent: QbittorrentHarness) -> None:
    order = qbittorrent.order("untagged", size=1000)
    handle = submitted(qbittorrent, order)
    until_over(qbittorrent, handle)
    qbittorrent.call("torrents_remove_tags", tags=handle, torrent_hashes="all")
    assert handle not in qbittorrent.engine.poll().items
    submitted(qbittorrent, order)
    until_over(qbittorrent, handle)


# ---- looking ----


def test_row_6_what_others_change_is_shown_and_each_adapter_has_a_session_of_its_own(qbittorrent: QbittorrentHarness) -> None:
    other = qbittorrent.another()
    first, second = qbittorrent.engine.poll().session, other.poll().session
    handle = submitted(qbittorrent, qbittorrent.order("shared", size=1000))
    for _ in range(3):
        assert qbittorrent.engine.poll().session == first
        assert other.poll().session == second
    assert list(other.poll().items) == [handle]
    other.remove([handle])
    assert not qbittorrent.engine.poll().items
    other.close()


def test_rows_9_and_10_an_error_has_its_cause_and_goes_on_once_that_is_gone(qbittorrent: QbittorrentHarness) -> None:
    order = qbittorrent.order("blocked", size=100_000)
    path = Path(order.directory, "blocked.bin")
    path.mkdir(parents=True)
    handle = submitted(qbittorrent, order)
    item = until_status(qbittorrent, handle, ItemStatus.FAILED)
    assert item.fault is not None
    assert (item.fault.cause, item.fault.detail) == (Cause.DISK, "a directory is in the way of a file")
    path.rmdir()
    submitted(qbittorrent, order)
    until_over(qbittorrent, handle)
    assert path.read_bytes() == content(100_000, 7)


def test_row_11_files_that_vanished_are_a_failure_and_are_fetched_again_when_it_is_submitted_again(qbittorrent: QbittorrentHarness) -> None:
    order = qbittorrent.order("vanished", size=100_000)
    handle = submitted(qbittorrent, order)
    until_over(qbittorrent, handle)
    qbittorrent.engine.pause([handle])
    until(qbittorrent, lambda _: qbittorrent.row(handle)["state"] in ("pausedUP", "stoppedUP"))
    qbittorrent.stop()
    Path(order.directory, "vanished.bin").unlink()
    qbittorrent.restart(keep=True)
    item = until_status(qbittorrent, handle, ItemStatus.FAILED)
    assert item.fault is not None
    assert (item.fault.cause, item.fault.passing) == (Cause.INCOMPLETE, True)
    with pytest.raises(Failed, match="does not show"):
        qbittorrent.engine.files(handle)

    def over(poll: Poll) -> bool:
        """Handed over until it runs, as the owner does: a recheck may end in a pause."""
        if poll.items[handle].status is ItemStatus.PAUSED:
            submitted(qbittorrent, order)
        return poll.items[handle].status is ItemStatus.COMPLETE

    submitted(qbittorrent, order)
    until(qbittorrent, over)
    assert Path(order.directory, "vanished.bin").read_bytes() == content(100_000, 7)


def test_row_13_a_torrent_and_its_tag_outlive_a_kill_right_after_it_was_added(qbittorrent: QbittorrentHarness) -> None:
    order = qbittorrent.order("killed", rate=SLOW)
    handle = submitted(qbittorrent, order)
    until(qbittorrent, lambda _: any((qbittorrent.profile / "qBittorrent" / "data" / "BT_backup").glob("*.fastresume")))
    qbittorrent.restart(keep=True)
    until_over(qbittorrent, handle)


# ---- files ----


def test_files_are_found_by_a_process_that_never_looked(qbittorrent: QbittorrentHarness, counting: Counting) -> None:
    order = qbittorrent.order("elsewhere", size=1000)
    until_over(qbittorrent, submitted(qbittorrent, order))
    other = qbittorrent.another(port=counting.port)
    assert [file.size for file in other.files(other.handle("elsewhere", 1))] == [1000]
    other.close()
    assert LOOK not in counting.requests


def test_the_ending_of_incomplete_files_and_another_place_for_them_change_nothing(qbittorrent: QbittorrentHarness) -> None:
    prefs = {"incomplete_files_ext": True, "temp_path_enabled": True, "temp_path": str(qbittorrent.downloads / "temp")}
    qbittorrent.call("app_set_preferences", prefs={**prefs, "torrent_content_layout": "NoSubfolder", "start_paused_enabled": True})
    order = torrent_order(qbittorrent.engine, "ending", qbittorrent.pack(rate=SLOW).document)
    until_over(qbittorrent, submitted(qbittorrent, order))
    until(qbittorrent, lambda _: not list(Path(order.directory).rglob("*.!qB")))
    assert found(qbittorrent, order) == below(FILES)


def test_a_file_that_changed_on_the_disk_is_not_complete(qbittorrent: QbittorrentHarness) -> None:
    order = qbittorrent.order("cut", size=1000)
    handle = submitted(qbittorrent, order)
    until_over(qbittorrent, handle)
    os.truncate(Path(order.directory, "cut.bin"), 999)
    with pytest.raises(Failed, match="has 999 bytes on the disk instead of 1000") as refused:
        qbittorrent.engine.files(handle)
    assert refused.value.cause == Cause.INCOMPLETE


def test_a_running_item_is_counted_with_its_web_seed(qbittorrent: QbittorrentHarness) -> None:
    handle = submitted(qbittorrent, qbittorrent.order("counted", rate=SLOW))
    item = until_begun(qbittorrent, handle)
    assert item.progress.connections >= 1
    assert item.progress.total == SIZE
