"""What `worker.ports.Engine` promises about torrents whose content, or description, comes from other clients."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import pytest

from tests.contract.engine_suite import submitted, until, until_over, until_status, work_directory
from tests.contract.torrent_suite import TorrentHarness, below, fault_of, found, torrent_order
from tests.origin import Origin
from tests.torrents import FILES, Pack, Seeder, Version, fetch, pack
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Phase, Reason
from worker.jobs.torrents import read_torrent
from worker.ports import ItemStatus, Order

#: Clients that fetch from the engine one after the other until it has given enough.
LEECHERS = 3
SIZE = sum(map(len, FILES.values()))


class SwarmHarness(TorrentHarness, Protocol):
    """Of a real engine among other clients.

    Attributes:
        client: an aria2c for those.
        base: a directory for what they have.
    """

    origin: Origin
    client: Path
    base: Path


def swarm_pack(harness: SwarmHarness, version: Version = "v1", *, name: str = "pack") -> Pack:
    """A torrent that is only to be had from clients of the origin's tracker."""
    return pack(FILES, name=name, version=version, trackers=(harness.origin.url("announce"),))


def seeder(harness: SwarmHarness, made: Pack, *, rate: str = "0") -> Seeder:
    """A client that has it all; to be used as a context manager."""
    return Seeder(harness.client, harness.base / "seeder", harness.origin, made, rate=rate)


def magnet_order(harness: SwarmHarness, transfer: str, uri: str, *, select: tuple[int, ...] = ()) -> Order:
    """An order for a magnet link."""
    return Order(transfer, 1, Source(SourceKind.MAGNET, uri), work_directory(harness.engine, transfer), select=select, seed_time_s=600.0)


def until_owned(harness: SwarmHarness, order: Order) -> None:
    """Do as its owner does until it is complete: what shows PAUSED is submitted again."""
    handle = harness.engine.handle(order.transfer, order.attempt)

    def resumed_or_over() -> bool:
        item = until(harness, lambda poll: poll.items[handle].status in (ItemStatus.PAUSED, ItemStatus.COMPLETE)).items[handle]
        if item.status is ItemStatus.PAUSED:
            assert harness.engine.submit([order]) == [None]
        return item.status is ItemStatus.COMPLETE

    assert any(resumed_or_over() for _ in range(20)), "it pauses again and again"


class SwarmSuite:
    """Subclass with a fixture `harness`."""

    def test_a_torrent_is_fetched_from_a_peer(self, harness: SwarmHarness) -> None:
        made = swarm_pack(harness)
        with seeder(harness, made):
            order = torrent_order(harness.engine, "peer", made.document)
            until_status(harness, submitted(harness, order), ItemStatus.COMPLETE)
        assert found(harness, order) == below(FILES)

    def test_a_magnet_shows_that_it_waits_for_its_description_and_then_completes(self, harness: SwarmHarness) -> None:
        made = swarm_pack(harness)
        with seeder(harness, made) as other:
            order = magnet_order(harness, "magnet", made.magnet())
            with other.held():
                handle = submitted(harness, order)
                item = until_status(harness, handle, ItemStatus.RUNNING)
                assert (item.phase, item.progress.done, item.progress.total) == (Phase.METADATA, 0, None)
            item = until_status(harness, handle, ItemStatus.COMPLETE)
        assert (item.progress.done, item.progress.total) == (SIZE, SIZE)
        assert list(harness.engine.poll().items) == [handle]
        assert found(harness, order) == below(FILES)

    @pytest.mark.parametrize("version", ["v1", "hybrid"])
    def test_a_magnet_with_a_selection_fetches_the_selected_files(self, harness: SwarmHarness, version: Version) -> None:
        made = swarm_pack(harness, version)
        with seeder(harness, made):
            first, _, third = (file.number for file in read_torrent(made.document).files)
            order = magnet_order(harness, "choice", made.magnet(), select=(first, third))
            submitted(harness, order)
            until_owned(harness, order)
        one, _, three = made.files.values()
        assert sorted(found(harness, order).values()) == sorted([one, three])

    def test_a_magnet_with_a_selection_outside_its_torrent_is_a_fault_of_the_source(self, harness: SwarmHarness) -> None:
        made = swarm_pack(harness)
        with seeder(harness, made):
            order = magnet_order(harness, "beyond", made.magnet(), select=(1, 9))
            handle = submitted(harness, order)
            item = until(harness, lambda poll: poll.items[handle].status in (ItemStatus.PAUSED, ItemStatus.FAILED)).items[handle]
            fault = item.fault or fault_of(harness, order)
        assert (fault.cause, fault.passing, fault.wait) == (Cause.SOURCE, False, None)
        assert harness.engine.remove([handle]) == [handle]

    @pytest.mark.parametrize(("form", "both"), [("hex", False), ("base32", True)])
    def test_a_hybrid_keeps_its_handle_when_its_hash_changes(
        self, harness: SwarmHarness, form: Literal["hex", "base32"], both: bool
    ) -> None:
        made = swarm_pack(harness, "hybrid")
        with seeder(harness, made):
            order = magnet_order(harness, "changes", made.magnet(btih=form, btmh=both))
            handle = submitted(harness, order)
            until_status(harness, handle, ItemStatus.COMPLETE)
        assert list(harness.engine.poll().items) == [handle]
        assert found(harness, order) == below(FILES)
        assert harness.engine.submit([order]) == [None]
        assert list(harness.engine.poll().items) == [handle]
        assert harness.engine.remove([handle]) == [handle]
        assert not harness.engine.poll().items

    def test_a_magnet_of_a_torrent_that_is_there_waits_for_it(self, harness: SwarmHarness) -> None:
        made = swarm_pack(harness)
        first, second = torrent_order(harness.engine, "there", made.document), magnet_order(harness, "later", made.magnet())
        with seeder(harness, made, rate="500K"):
            handle = submitted(harness, first)
            until_status(harness, handle, ItemStatus.RUNNING)
            fault = fault_of(harness, second)
            assert (fault.passing, fault.wait) == (True, Reason.DUPLICATE)
            until_status(harness, handle, ItemStatus.COMPLETE)
        assert found(harness, first) == below(FILES)

    def test_a_magnet_without_peers_is_removed_with_nothing_left(self, harness: SwarmHarness) -> None:
        order = magnet_order(harness, "dead", swarm_pack(harness, name="nobody has it").magnet())
        handle = submitted(harness, order)
        assert until_status(harness, handle, ItemStatus.RUNNING).phase is Phase.METADATA
        assert harness.engine.submit([order]) == [None]
        assert harness.engine.remove([handle]) == [handle]
        assert not harness.engine.poll().items

    def test_it_gives_to_others_until_the_ratio_is_reached(self, harness: SwarmHarness) -> None:
        made = swarm_pack(harness)
        order = torrent_order(harness.engine, "ratio", made.document, seed_ratio=1.0)
        with seeder(harness, made):
            handle = submitted(harness, order)
            until(harness, lambda poll: poll.items[handle].seeding)
        for number in range(LEECHERS):
            complete = fetch(harness.client, harness.base / f"leecher{number}", made)
            if number == 0:
                assert complete
            if not harness.engine.poll().items[handle].seeding:
                break
        item = until_over(harness, handle)
        assert item.progress.uploaded >= SIZE // 2
        assert found(harness, order) == below(FILES)
