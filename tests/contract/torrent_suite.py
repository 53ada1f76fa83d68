"""What `worker.ports.Engine` promises about torrents, one test a promise; `swarm_suite` adds what needs other clients.

An engine's harness makes torrents whose content is to be had (`pack`), and orders for them here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.contract.engine_suite import SLOW, Harness, submitted, until, until_begun, until_over, until_status, work_directory
from tests.origin import content
from tests.torrents import FILES, Pack, Version
from worker.jobs.errors import Failed
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Phase, Reason
from worker.jobs.torrents import read_torrent
from worker.ports import Engine, Fault, ItemStatus, Order

#: Large enough to be caught at work, in files whose names and sizes are awkward.
LARGE: Mapping[str, bytes] = {"one.bin": content(2_000_000, 4), "two.bin": content(1_500_000, 5)}
#: What is fetched of a file that is not wanted: pieces it shares with its neighbors, and what was asked for before.
SHARED = 200_000


class TorrentHarness(Harness, Protocol):
    """Of an engine that fetches torrents."""

    @property
    def hybrids(self) -> bool:
        """Whether it fetches torrents of both versions of BitTorrent; aria2 1.36 does not."""

    def pack(
        self,
        files: Mapping[str, bytes] = FILES,
        *,
        name: str = "pack",
        single: bool = False,
        version: Version = "v1",
        rate: int = 0,
    ) -> Pack:
        """A torrent whose content the engine can get, at `rate` bytes a second and connection."""


def torrent_order(engine: Engine, transfer: str, document: bytes, attempt: int = 1, **changes: Any) -> Order:
    """An order for a `.torrent` file."""
    source = Source(SourceKind.TORRENT, f"torrent:{hashlib.sha256(document).hexdigest()}")
    order = Order(transfer, attempt, source, work_directory(engine, transfer), document=document, seed_time_s=600.0)
    return replace(order, **changes)


def fault_of(harness: Harness, order: Order) -> Fault:
    """The fault of an order that fails, at once or later; it is removed as its owner does."""
    (fault,) = harness.engine.submit([order])
    handle = harness.engine.handle(order.transfer, order.attempt)
    if fault is None:
        fault = until_status(harness, handle, ItemStatus.FAILED).fault
        assert fault is not None
        assert harness.engine.remove([handle]) == [handle]
    assert handle not in harness.engine.poll().items
    return fault


def found(harness: Harness, order: Order) -> dict[str, bytes]:
    """Path below the order's directory -> content, of the files of a complete order; each has the size the engine says."""
    files = harness.engine.files(harness.engine.handle(order.transfer, order.attempt))
    assert [Path(file.path).stat().st_size for file in files] == [file.size for file in files]
    return {str(Path(file.path).relative_to(order.directory)): Path(file.path).read_bytes() for file in files}


def below(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files as they lie in the folder `pack`."""
    return {f"pack/{path}": body for path, body in files.items()}


def assert_left_to_another_engine(fault: Fault) -> None:
    """It is no failure of the torrent that this engine cannot fetch it."""
    assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.UNSUPPORTED, False, True)


class TorrentSuite:
    """Subclass with a fixture `harness`."""

    def test_a_torrent_ends_as_all_its_files(self, harness: TorrentHarness) -> None:
        order = torrent_order(harness.engine, "folder", harness.pack().document)
        item = until_over(harness, submitted(harness, order))
        assert (item.progress.done, item.progress.total) == (sum(map(len, FILES.values())),) * 2
        assert found(harness, order) == below(FILES)

    def test_only_the_selected_files_are_fetched_and_are_its_files(self, harness: TorrentHarness) -> None:
        made = harness.pack({"first.bin": content(40_000, 1), "unwanted.bin": content(3_000_000, 2), "last.bin": content(300_000, 3)})
        order = torrent_order(harness.engine, "some", made.document, select=(1, 3))
        item = until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
        assert item.progress.done == item.progress.total
        assert 340_000 <= item.progress.done < 340_000 + SHARED  # engines count whole pieces
        wanted = {path: body for path, body in made.files.items() if path != "unwanted.bin"}
        assert found(harness, order) == below(wanted)
        assert _written(order) < 340_000 + SHARED

    @pytest.mark.parametrize("select", [(4,), (1, 4), (70_000,)])
    def test_a_selection_outside_the_torrent_is_a_fault_of_the_source(self, harness: TorrentHarness, select: tuple[int, ...]) -> None:
        fault = fault_of(harness, torrent_order(harness.engine, "outside", harness.pack().document, select=select))
        assert (fault.cause, fault.passing, fault.wait) == (Cause.SOURCE, False, None)

    @pytest.mark.parametrize("document", [b"", b"<html>please log in</html>", b"d4:infod4:name1:xee", b"d4:info"])
    def test_a_document_that_is_no_torrent_is_a_fault_of_the_source(self, harness: TorrentHarness, document: bytes) -> None:
        fault = fault_of(harness, torrent_order(harness.engine, "none", document))
        assert (fault.cause, fault.passing, fault.wait) == (Cause.SOURCE, False, None)

    def test_a_source_without_its_document_is_not_fetched_by_the_engine(self, harness: TorrentHarness) -> None:
        order = replace(torrent_order(harness.engine, "absent", harness.pack().document), document=None)
        (fault,) = harness.engine.submit([order])
        assert fault is not None
        assert (fault.cause, fault.passing) == (Cause.UNSUPPORTED, False)
        assert not harness.engine.poll().items

    def test_a_hybrid_torrent_keeps_its_handle_and_its_padding_is_no_file(self, harness: TorrentHarness) -> None:
        order = torrent_order(harness.engine, "hybrid", harness.pack(version="hybrid").document)
        if not harness.hybrids:
            assert_left_to_another_engine(fault_of(harness, order))
            return
        handle = submitted(harness, order)
        item = until_status(harness, handle, ItemStatus.COMPLETE)
        assert list(harness.engine.poll().items) == [handle]
        assert item.progress.done == item.progress.total
        assert sum(map(len, FILES.values())) <= item.progress.done < sum(map(len, FILES.values())) + SHARED  # padding may count
        assert found(harness, order) == below(FILES)

    def test_a_selection_from_a_hybrid_goes_by_the_numbers_of_its_files(self, harness: TorrentHarness) -> None:
        made = harness.pack(version="hybrid")
        _, second, third = (file.number for file in read_torrent(made.document).files)
        order = torrent_order(harness.engine, "numbers", made.document, select=(second, third))
        if not harness.hybrids:
            assert_left_to_another_engine(fault_of(harness, order))
            return
        until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
        assert found(harness, order) == below(dict(list(made.files.items())[1:]))

    def test_a_torrent_of_the_second_version_is_fetched_or_left_to_another_engine(self, harness: TorrentHarness) -> None:
        order = torrent_order(harness.engine, "second", harness.pack(version="v2").document)
        if harness.engine.features.bittorrent_v2:
            until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
            assert found(harness, order) == below(FILES)
        else:
            assert_left_to_another_engine(fault_of(harness, order))

    def test_a_second_transfer_of_the_same_torrent_waits_for_the_first(self, harness: TorrentHarness) -> None:
        made = harness.pack(LARGE, rate=SLOW // 2)
        first, second = (torrent_order(harness.engine, f"same{n}", made.document) for n in range(2))
        handle = submitted(harness, first)
        until_begun(harness, handle)
        for _ in range(2):
            fault = fault_of(harness, second)
            assert (fault.passing, fault.wait) == (True, Reason.DUPLICATE)
        item = harness.engine.poll().items[handle]
        assert (item.transfer, item.fault) == ("same0", None)
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert found(harness, first) == below(LARGE)
        assert harness.engine.remove([handle]) == [handle]
        until_status(harness, submitted(harness, second), ItemStatus.COMPLETE)
        assert found(harness, second) == below(LARGE)
        assert Path(first.directory, "pack", "one.bin").read_bytes() == LARGE["one.bin"]

    def test_the_next_attempt_at_a_torrent_goes_on_with_what_is_on_disk(self, harness: TorrentHarness) -> None:
        made = harness.pack(LARGE, rate=SLOW)
        first = torrent_order(harness.engine, "attempts", made.document)
        before = submitted(harness, first)
        until_begun(harness, before)
        second = replace(first, attempt=2)
        handle = submitted(harness, second)
        assert list(harness.engine.poll().items) == [handle]
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert found(harness, second) == below(LARGE)

    def test_it_seeds_when_it_is_asked_to(self, harness: TorrentHarness) -> None:
        order = torrent_order(harness.engine, "giving", harness.pack().document, seed_ratio=3.0)
        handle = submitted(harness, order)
        item = until(harness, lambda poll: poll.items[handle].seeding).items[handle]
        assert (item.status, item.phase) == (ItemStatus.COMPLETE, None)
        assert found(harness, order) == below(FILES)
        assert harness.engine.submit([order]) == [None]
        assert harness.engine.poll().items[handle].seeding
        assert harness.engine.remove([handle]) == [handle]

    def test_names_that_do_not_fit_the_file_system_stay_inside_the_directory(self, harness: TorrentHarness) -> None:
        files = {
            f"{'n' * 300}.mkv": content(10_000, 1),
            f"{'é' * 150}/{'ü' * 200}.bin": content(20_000, 2),
            "a\tb\x01c\x7f.bin": content(30_000, 3),
            "😀 €/😀.bin": content(40_000, 4),
        }
        order = torrent_order(harness.engine, "names", harness.pack(files, name="p" * 290).document)
        until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
        assert sorted(found(harness, order).values()) == sorted(files.values())
        assert all(len(part.encode()) <= 255 for path in found(harness, order) for part in Path(path).parts)

    def test_two_long_names_with_the_same_beginning_stay_two_files(self, harness: TorrentHarness) -> None:
        files = {f"{'n' * 300}{n}.mkv": content(10_000, n) for n in range(3)}
        order = torrent_order(harness.engine, "alike", harness.pack(files).document)
        until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
        assert sorted(found(harness, order).values()) == sorted(files.values())

    def test_files_of_a_torrent_at_work_are_refused(self, harness: TorrentHarness) -> None:
        handle = submitted(harness, torrent_order(harness.engine, "early", harness.pack(LARGE, rate=SLOW).document))
        assert until_begun(harness, handle).phase is Phase.TRANSFER
        with pytest.raises(Failed, match="does not show"):
            harness.engine.files(handle)


def _written(order: Order) -> int:
    """Bytes that were really written in the order's directory: holes count nothing."""
    return sum(path.stat().st_blocks * 512 for path in Path(order.directory).rglob("*") if path.is_file())
