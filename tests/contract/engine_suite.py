"""What `worker.ports.Engine` promises, one test a promise, for any engine.

An implementation's test module gives a `Harness` and subclasses `EngineSuite`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from tests.origin import content
from worker.jobs.errors import Failed, Transient
from worker.jobs.model import Source, SourceKind
from worker.jobs.states import Cause, Phase
from worker.ports import Engine, Item, ItemStatus, Order, Poll

#: Of what takes a second on a quiet machine.
WAIT_S = 30.0
SIZE = 3_000_000
#: Bytes a second of a download that has to be caught at work; it takes two thirds of a second.
SLOW = 4_500_000
#: Where it is caught: what is fetched again from the start cannot be taken for resumed.
BEGUN = SIZE // 2
#: What an origin has in its sockets and is never read.
SOCKETS = 1_000_000


class Harness(Protocol):
    """How to get at one implementation and the world around it.

    Attributes:
        batch: orders that do not fit into one request of the engine.
    """

    engine: Engine
    batch: int

    def order(self, transfer: str, attempt: int = 1, *, size: int = SIZE, rate: int = 0, name: str | None = None) -> Order:
        """An order of the harness's own kind of source for one file of `content(size, 7)`, in the transfer's own directory.

        `rate` is in bytes a second, 0 for no limit; `name` is what the file is to be called.
        """

    def bad_order(self, transfer: str) -> Order:
        """An order the engine refuses when it is submitted."""

    def fetched(self, order: Order) -> int:
        """Bytes the origin gave for what `order` returned, over all attempts."""

    def step(self) -> None:
        """Let a little happen."""

    def restart(self, *, keep: bool) -> None:
        """Kill the engine and start it again, with what it remembers or without."""

    def silent(self) -> AbstractContextManager[None]:
        """The engine hears and does not answer."""


class Addresses(Protocol):
    """Where addresses lead."""

    engine: Engine

    def url(self, path: str) -> str:
        """The absolute URL of one of the origin's paths."""


class HttpHarness(Harness, Addresses, Protocol):
    """Of an engine that fetches addresses."""

    def break_source(self, order: Order) -> None:
        """Called after a submission of an address with status 404; makes the fake notice."""


def work_directory(engine: Engine, transfer: str) -> str:
    """Where a transfer of this engine lies."""
    return str(Path(engine.directory, ".haul", transfer, engine.name))


def http_order(
    harness: Addresses,
    transfer: str,
    attempt: int = 1,
    *,
    path: str | None = None,
    rate: int = 0,
    size: int = SIZE,
    name: str | None = None,
) -> Order:
    """An order for an address: a file of the origin, another of its paths, or a magnet link."""
    uri = harness.url(path or f"/file/{transfer}.bin?size={size}&seed=7&rate={rate}")
    kind = SourceKind.MAGNET if uri.startswith("magnet:") else SourceKind.HTTP
    return Order(transfer, attempt, Source(kind, uri), work_directory(harness.engine, transfer), name=name)


def until(harness: Harness, true: Callable[[Poll], bool]) -> Poll:
    """Poll until it is so."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        poll = harness.engine.poll()
        if true(poll):
            return poll
        harness.step()
    raise AssertionError(f"did not come true in {WAIT_S} s; last seen: {dict(poll.items)}")


def until_status(harness: Harness, handle: str, status: ItemStatus) -> Item:
    """Poll until the item has this status."""
    return until(harness, lambda poll: handle in poll.items and poll.items[handle].status is status).items[handle]


def until_over(harness: Harness, handle: str) -> Item:
    """Poll until it is complete and does not seed, which a torrent may be shown to do for a moment."""

    def over(poll: Poll) -> bool:
        item = poll.items.get(handle)
        return item is not None and item.status is ItemStatus.COMPLETE and not item.seeding

    return until(harness, over).items[handle]


def until_begun(harness: Harness, handle: str) -> Item:
    """Poll until half of it is there."""
    poll = until(harness, lambda poll: handle in poll.items and poll.items[handle].progress.done > BEGUN)
    assert poll.items[handle].status is ItemStatus.RUNNING
    return poll.items[handle]


def submitted(harness: Harness, order: Order) -> str:
    """Submit one order that is taken; its handle."""
    assert harness.engine.submit([order]) == [None]
    return harness.engine.handle(order.transfer, order.attempt)


class EngineSuite:
    """What holds for every kind of source. Subclass with a fixture `harness`."""

    def test_a_handle_is_the_same_every_time_and_another_for_each_attempt_and_transfer(self, harness: Harness) -> None:
        handle = harness.engine.handle
        assert handle("t1", 1) == handle("t1", 1)
        assert len({handle("t1", 1), handle("t1", 2), handle("t2", 1), handle("t11", 1)}) == 4

    def test_a_submitted_order_ends_as_a_whole_file_in_its_own_directory(self, harness: Harness) -> None:
        order = harness.order("whole", name="given name.bin")
        handle = submitted(harness, order)
        item = until_over(harness, handle)
        assert (item.handle, item.transfer, item.phase, item.fault) == (handle, "whole", None, None)
        assert (item.progress.done, item.progress.total) == (SIZE, SIZE)
        (found,) = harness.engine.files(handle)
        assert found.path == str(Path(order.directory, "given name.bin"))
        assert found.size == SIZE
        assert Path(found.path).read_bytes() == content(SIZE, 7)

    def test_a_running_item_shows_its_phase_and_its_progress(self, harness: Harness) -> None:
        handle = submitted(harness, harness.order("slow", rate=SLOW))
        item = until_begun(harness, handle)
        assert item.phase is Phase.TRANSFER
        assert item.fault is None
        assert 0 < item.progress.done < SIZE
        assert item.progress.total == SIZE

    def test_submitting_twice_is_submitting_once(self, harness: Harness) -> None:
        order = harness.order("twice", rate=SLOW)
        handle = submitted(harness, order)
        assert harness.engine.submit([order, order]) == [None, None]
        assert [item.handle for item in harness.engine.poll().items.values()] == [handle]
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert harness.engine.submit([order]) == [None]
        assert harness.engine.poll().items[handle].status is ItemStatus.COMPLETE
        assert harness.fetched(order) == SIZE

    def test_one_bad_order_does_not_touch_the_others(self, harness: Harness) -> None:
        bad = harness.bad_order("bad")
        good = [harness.order(f"good{n}", size=1000) for n in range(2)]
        first, fault, second = harness.engine.submit([good[0], bad, good[1]])
        assert (first, second) == (None, None)
        assert fault is not None
        assert fault.cause in (Cause.SOURCE, Cause.UNSUPPORTED)
        assert not fault.passing
        for order in good:
            until_status(harness, harness.engine.handle(order.transfer, 1), ItemStatus.COMPLETE)
        assert harness.engine.handle("bad", 1) not in harness.engine.poll().items

    def test_a_batch_larger_than_any_request_is_taken_whole(self, harness: Harness) -> None:
        orders = [harness.order(f"many{n}", size=1000) for n in range(harness.batch)]
        assert harness.engine.submit(orders) == [None] * harness.batch
        until(harness, lambda poll: sum(item.status is ItemStatus.COMPLETE for item in poll.items.values()) == harness.batch)
        assert {item.transfer for item in harness.engine.poll().items.values()} == {order.transfer for order in orders}

    def test_a_pause_is_shown_and_asking_twice_is_asking_once(self, harness: Harness) -> None:
        order = harness.order("pause", rate=SLOW)
        handle = submitted(harness, order)
        until_begun(harness, handle)
        harness.engine.pause([handle, harness.engine.handle("nobody", 1)])
        item = until_status(harness, handle, ItemStatus.PAUSED)
        harness.engine.pause([handle])
        assert harness.engine.poll().items[handle].status is ItemStatus.PAUSED
        assert item.phase is None

    def test_submitting_what_is_paused_resumes_it_where_it_was(self, harness: Harness) -> None:
        order = harness.order("resume", rate=SLOW)
        handle = submitted(harness, order)
        until_begun(harness, handle)
        harness.engine.pause([handle])
        done = until_status(harness, handle, ItemStatus.PAUSED).progress.done
        for _ in range(2):
            assert harness.engine.submit([order]) == [None]
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert Path(harness.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)
        assert done > 0
        assert harness.fetched(order) < SIZE + SOCKETS

    def test_the_next_attempt_takes_over_the_directory_and_ends_the_one_before(self, harness: Harness) -> None:
        first = harness.order("again", rate=SLOW)
        before = submitted(harness, first)
        until_begun(harness, before)
        second = harness.order("again", attempt=2, rate=SLOW)
        handle = submitted(harness, second)
        assert list(harness.engine.poll().items) == [handle]
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert Path(harness.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)
        assert harness.fetched(second) < SIZE + SOCKETS

    def test_what_is_removed_is_gone_and_its_files_stay(self, harness: Harness) -> None:
        running, complete = harness.order("running", rate=SLOW), harness.order("complete", size=1000)
        handles = [submitted(harness, running), submitted(harness, complete)]
        until_begun(harness, handles[0])
        until_status(harness, handles[1], ItemStatus.COMPLETE)
        unknown = harness.engine.handle("nobody", 1)
        assert sorted(harness.engine.remove([*handles, unknown])) == sorted([*handles, unknown])
        assert not harness.engine.poll().items
        assert sorted(harness.engine.remove(handles)) == sorted(handles)
        for order in (running, complete):
            assert list(Path(order.directory).iterdir())

    def test_a_removed_transfer_can_be_submitted_again_and_goes_on_where_it_was(self, harness: Harness) -> None:
        order = harness.order("back", rate=SLOW)
        handle = submitted(harness, order)
        until_begun(harness, handle)
        assert harness.engine.remove([handle]) == [handle]
        assert submitted(harness, order) == handle
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert Path(harness.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)
        assert harness.fetched(order) < SIZE + SOCKETS

    def test_files_of_what_is_unknown_or_running_are_refused_as_incomplete(self, harness: Harness) -> None:
        handle = submitted(harness, harness.order("notyet", rate=SLOW))
        for asked in (handle, harness.engine.handle("nobody", 1)):
            with pytest.raises(Failed) as refused:
                harness.engine.files(asked)
            assert refused.value.cause == Cause.INCOMPLETE

    def test_after_a_crash_that_forgot_all_the_session_is_another_and_a_resubmission_resumes(self, harness: Harness) -> None:
        order = harness.order("crash", rate=SLOW)
        handle = submitted(harness, order)
        until_begun(harness, handle)
        harness.engine.pause([handle])  # an engine writes down at a pause what it has; else only every few seconds
        until_status(harness, handle, ItemStatus.PAUSED)
        resumed = time.monotonic()
        submitted(harness, order)
        before = harness.engine.poll().session
        assert harness.engine.poll().session == before
        harness.restart(keep=False)
        unwritten = SLOW * (time.monotonic() - resumed)  # what came since then may be written down nowhere
        poll = harness.engine.poll()
        assert poll.session != before
        assert not poll.items
        submitted(harness, order)
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert Path(harness.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)
        assert harness.fetched(order) < SIZE + SOCKETS + unwritten

    def test_after_a_crash_that_kept_the_session_the_item_goes_on_by_itself(self, harness: Harness) -> None:
        order = harness.order("kept", rate=SLOW)
        handle = submitted(harness, order)
        until_begun(harness, handle)
        before = harness.engine.poll().session
        harness.restart(keep=True)
        assert until(harness, lambda poll: handle in poll.items).session != before
        assert harness.engine.submit([order]) == [None]
        assert list(harness.engine.poll().items) == [handle]
        until_status(harness, handle, ItemStatus.COMPLETE)
        assert Path(harness.engine.files(handle)[0].path).read_bytes() == content(SIZE, 7)

    def test_what_was_complete_before_a_crash_is_found_complete_and_not_fetched_again(self, harness: Harness) -> None:
        order = harness.order("found")
        handle = submitted(harness, order)
        until_over(harness, handle)
        harness.restart(keep=False)
        submitted(harness, order)
        until_status(harness, handle, ItemStatus.COMPLETE)
        (found,) = harness.engine.files(handle)
        assert Path(found.path).read_bytes() == content(SIZE, 7)
        assert harness.fetched(order) < SIZE + SOCKETS

    def test_a_limit_is_shown_by_the_engine_until_it_is_lifted(self, harness: Harness) -> None:
        assert harness.engine.throttle(300 * 1024) == 300 * 1024
        assert harness.engine.throttle(300 * 1024) == 300 * 1024
        assert harness.engine.throttle(200 * 1024) == 200 * 1024
        assert harness.engine.throttle(None) is None

    def test_each_download_has_a_limit_of_its_own_that_changes_without_a_break(self, harness: Harness) -> None:
        kib, limit = 1024, harness.engine.limit
        first, second = harness.order("first", rate=SLOW), replace(harness.order("second", rate=SLOW), limit=900 * kib)
        one, two = submitted(harness, first), submitted(harness, second)
        until_begun(harness, one)
        assert limit({one: 300 * kib, two: 200 * kib, harness.engine.handle("nobody", 1): kib}) == {one: 300 * kib, two: 200 * kib}
        assert limit({one: 300 * kib}) == {one: 300 * kib}
        assert limit({one: None, two: None}) == {one: None, two: None}
        assert limit({}) == {}
        until_status(harness, one, ItemStatus.COMPLETE)
        until_status(harness, two, ItemStatus.COMPLETE)
        assert harness.fetched(first) == harness.fetched(second) == SIZE

    def test_an_engine_that_does_not_answer_is_transient_within_its_time_out(self, harness: Harness) -> None:
        engine = harness.engine
        order = harness.order("silent", size=1000)
        engine.poll()
        calls: list[Callable[[], object]] = [
            engine.poll,
            lambda: engine.submit([order]),
            lambda: engine.pause(["0" * 15 + "1"]),
            lambda: engine.remove(["0" * 15 + "1"]),
            lambda: engine.files("0" * 15 + "1"),
            lambda: engine.throttle(None),
            lambda: engine.limit({"0" * 15 + "1": None}),
        ]
        with harness.silent():
            for call in calls:
                began = time.monotonic()
                with pytest.raises(Transient, match=f"engine {engine.name}"):
                    call()
                assert time.monotonic() - began < engine.rpc_timeout_s + 5.0, "long before the time-out it has by itself"
        submitted(harness, order)
        until_status(harness, engine.handle("silent", 1), ItemStatus.COMPLETE)

    def test_a_poll_tells_the_room_on_the_volume_and_the_speed(self, harness: Harness) -> None:
        handle = submitted(harness, harness.order("room", rate=SLOW))
        poll = until(harness, lambda poll: poll.speed > 0)
        assert poll.free_bytes is not None
        assert poll.free_bytes > 0
        assert list(poll.items) == [handle]
        assert re.fullmatch(r"\w+ \d+\.\d+[\w.]*", str(poll.version)), "the program says what it is"


class HttpSuite:
    """What an address adds. Subclass with a fixture `harness`."""

    def test_a_failure_is_shown_with_its_cause_and_the_same_attempt_can_be_submitted_again(self, harness: HttpHarness) -> None:
        order = http_order(harness, "gone", path="/status/404")
        for _ in range(2):
            handle = submitted(harness, order)
            harness.break_source(order)
            item = until_status(harness, handle, ItemStatus.FAILED)
            assert item.fault is not None
            assert (item.fault.cause, item.fault.passing) == (Cause.NOT_FOUND, False)
            assert "http" not in item.fault.detail
        with pytest.raises(Failed, match="does not show"):
            harness.engine.files(handle)

    def test_a_running_item_counts_its_connections(self, harness: HttpHarness) -> None:
        handle = submitted(harness, harness.order("connected", rate=SLOW))
        assert until_begun(harness, handle).progress.connections >= 1
