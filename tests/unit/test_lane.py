"""Writes of many threads go out in few calls, and each caller gets its own answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from worker.jobs.errors import LeaseLost, Transient
from worker.metrics import Metrics
from worker.store.lane import Bounds, Lane
from worker.store.meter import Meter

WAIT_S = 30.0
AWAY = Transient("store", "it is away")


class Store:
    """Doubles what it is given; may be held up, and fails as it is told to."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.errors: list[Exception] = []
        self.poison: dict[int, Exception] = {}
        self.away = False
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()

    def ping(self) -> None:
        if self.away:
            raise AWAY

    def write(self, items: list[int]) -> list[int]:
        self.calls.append(items)
        self.entered.release()
        assert self.go.wait(WAIT_S)
        if self.errors:
            raise self.errors.pop(0)
        for item in items:
            if item in self.poison:
                raise self.poison[item]
        return [2 * item for item in items]


class Setup:
    def __init__(self, **bounds: object) -> None:
        self.store = Store()
        self.metrics = Metrics()
        self.lane: Lane[int, int] = Lane(
            self.store.write,
            self.store.ping,
            lambda item: item,
            Bounds(**{"retry_after_s": (0.001, 0.001), **bounds}),
            Meter(self.metrics, "apply"),
        )

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"haul_store_batch_{name}", {"kind": "apply", **labels}) or 0.0

    @contextmanager
    def held_up(self, writes: Sequence[Sequence[int]], waiting: int | None = None) -> Iterator[list[Future[list[int]]]]:
        """The first write is under way and the others wait for it, in this order; all go on at the end of the block."""
        self.store.go.clear()
        with ThreadPoolExecutor(len(writes)) as threads:
            futures = [threads.submit(self.lane.put, writes[0])]
            assert self.store.entered.acquire(timeout=WAIT_S)
            for number, items in enumerate(writes[1:], 1):
                futures.append(threads.submit(self.lane.put, items))
                if waiting is None or number <= waiting:
                    self.until(lambda number=number: len(self.lane._waiting) == number)
            try:
                yield futures
            finally:
                self.store.go.set()

    @staticmethod
    def until(true: Callable[[], bool]) -> None:
        paused = threading.Event()
        for _ in range(int(WAIT_S / 0.002)):
            if true():
                return
            paused.wait(0.002)
        raise AssertionError("it does not come to that")


def test_a_lone_write_is_one_call_in_the_thread_that_asks() -> None:
    setup, threads = Setup(), []
    inner = setup.store.write
    setup.lane._call = lambda items: (threads.append(threading.current_thread()), inner(items))[1]
    assert setup.lane.put([1, 2]) == [2, 4]
    assert setup.lane.put([]) == []
    assert threads == [threading.current_thread()] * 2
    assert setup.count("size_sum") == 2


def test_what_comes_during_a_write_is_the_next_batch_and_each_gets_its_own_answers() -> None:
    setup = Setup()
    with setup.held_up([[1], [2, 3], [4], []]) as answers:
        assert setup.count("buffered") == 3
    assert [each.result() for each in answers] == [[2], [4, 6], [8], []]
    assert setup.store.calls == [[1], [2, 3, 4]]
    assert setup.count("buffered") == 0
    assert setup.count("wait_seconds_count") == 3


def test_a_batch_ends_where_its_bounds_are_and_the_next_follows() -> None:
    by_count, by_bytes = Setup(batch_items=2), Setup(batch_bytes=9)
    with by_count.held_up([[1], [2], [3], [4], [5, 6, 7]]) as answers:
        pass
    assert [each.result() for each in answers] == [[2], [4], [6], [8], [10, 12, 14]]
    assert by_count.store.calls == [[1], [2, 3], [4], [5, 6, 7]]
    with by_bytes.held_up([[1], [4], [5], [3], [100], [1]]) as answers:
        pass
    assert [each.result() for each in answers] == [[2], [8], [10], [6], [200], [2]]
    assert by_bytes.store.calls == [[1], [4, 5], [3], [100], [1]]


def test_a_write_that_cannot_be_made_fails_for_its_caller_alone() -> None:
    setup = Setup()
    setup.store.poison = {3: ValueError("poison")}
    with setup.held_up([[1], [2], [3, 4], [5], [6]]) as answers:
        pass
    with pytest.raises(ValueError, match="poison"):
        answers[2].result()
    assert [answers[n].result() for n in (0, 1, 3, 4)] == [[2], [4], [10], [12]]
    assert setup.count("failures_total", outcome="raised") == 1


def test_a_passing_fault_is_tried_again_with_the_same_items() -> None:
    setup = Setup()
    setup.store.errors = [AWAY, AWAY]
    assert setup.lane.put([1, 2]) == [2, 4]
    assert setup.store.calls == [[1, 2]] * 3
    assert setup.count("failures_total", outcome="retried") == 2


def test_a_fault_that_does_not_pass_is_raised_to_each_caller_as_its_own_and_the_next_goes_on() -> None:
    setup = Setup(retry_within_s=0.0)
    with setup.held_up([[1], [2], [3]]) as answers:
        setup.store.errors = [AWAY] * 2
    raised = [each.exception() for each in answers]
    assert {str(error) for error in raised} == {str(AWAY)}
    assert len({id(error) for error in raised}) == 3
    assert setup.store.calls == [[1], [2, 3]]
    assert setup.lane.put([4]) == [8]


def test_a_fault_of_one_write_that_looks_passing_takes_no_neighbour_along() -> None:
    setup = Setup(retry_after_s=())
    setup.store.poison = {3: AWAY}
    with setup.held_up([[1], [2], [3], [4]]) as answers:
        pass
    assert [answers[n].result() for n in (0, 1, 3)] == [[2], [4], [8]]
    assert isinstance(answers[2].exception(), Transient)


def test_the_batch_of_a_store_that_is_away_is_not_taken_apart() -> None:
    setup = Setup()
    with setup.held_up([[1], [2], [3], [4]]) as answers:
        setup.store.errors, setup.store.away = [AWAY] * 100, True
    assert [type(each.exception()) for each in answers] == [Transient] * 4
    assert setup.store.calls == [[1]] * 3 + [[2, 3, 4]] * 3


def test_a_lost_lease_is_neither_tried_again_nor_split() -> None:
    setup = Setup()
    with setup.held_up([[1], [2], [3]]) as answers:
        setup.store.errors = [LeaseLost("store", "gone"), LeaseLost("store", "gone")]
    assert [type(each.exception()) for each in answers] == [LeaseLost] * 3
    assert setup.store.calls == [[1], [2, 3]]


def test_who_finds_the_line_full_waits_for_room_and_is_sent_away_after_a_while() -> None:
    setup = Setup(waiting_items=2, room_s=0.05)
    with setup.held_up([[1], [2, 3], [4]], waiting=1) as answers:
        with pytest.raises(Transient, match="2 writes wait"):
            answers[2].result(WAIT_S)
        assert setup.count("failures_total", outcome="full") == 1
    assert [each.result() for each in answers[:2]] == [[2], [4, 6]]
    patient = Setup(waiting_items=2)
    with patient.held_up([[1], [2, 3], [4]], waiting=1) as answers:
        pass
    assert [each.result() for each in answers] == [[2], [4, 6], [8]]


def test_who_waits_too_long_leaves_the_line_and_is_not_written() -> None:
    setup = Setup(answer_s=0.05)
    with setup.held_up([[1], [2]]) as answers, pytest.raises(Transient, match="no answer"):
        answers[1].result(WAIT_S)
    assert answers[0].result() == [2]
    assert setup.lane.put([3]) == [6]
    assert setup.store.calls == [[1], [3]]
    assert setup.count("buffered") == 0


def test_a_writer_that_vanished_is_made_up_for_by_those_who_waited_for_it_in_vain() -> None:
    setup = Setup(answer_s=0.05)
    setup.lane._busy = True  # a signal ended its thread between two lines
    with pytest.raises(Transient, match="no answer"):
        setup.lane.put([1])
    assert setup.lane.put([2]) == [4]


def test_a_writer_that_is_broken_off_leaves_the_lane_to_the_next_and_tells_those_in_its_batch() -> None:
    setup = Setup()
    broken = threading.Event()

    def write(items: list[int]) -> list[int]:
        if items == [2, 3] and not broken.is_set():
            broken.set()
            raise SystemExit
        return Store.write(setup.store, items)

    setup.lane._call = write
    with setup.held_up([[1], [2], [3]]) as answers:
        pass
    kinds = [type(each.exception()) for each in answers]
    assert kinds[0] is type(None)
    assert set(kinds[1:]) == {SystemExit, Transient}
    assert setup.lane.put([4]) == [8]


def test_draining_ends_when_all_is_answered_or_the_time_is_over() -> None:
    setup = Setup()
    with setup.held_up([[1], [2]]):
        setup.lane.drain(0.01)
        assert len(setup.store.calls) == 1
    setup.lane.drain(WAIT_S)
    assert len(setup.store.calls) == 2


@pytest.mark.parametrize("name", ["batch_items", "batch_bytes", "waiting_items"])
def test_a_bound_of_nothing_is_refused_by_its_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0; it must be at least 1"):
        Bounds(**{name: 0})


def test_many_threads_at_once_get_each_its_own_answer_in_far_fewer_calls() -> None:
    setup = Setup()

    def work(number: int) -> None:
        for turn in range(50):
            item = number * 1_000 + turn
            assert setup.lane.put([item, item + 500]) == [2 * item, 2 * item + 1_000]

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(work, range(16)))
    written = [item for call in setup.store.calls for item in call]
    assert len(written) == len(set(written)) == 16 * 50 * 2
    for number in range(16):  # those of one thread in their order
        own = [item for item in written if item // 1_000 == number and item % 1_000 < 500]
        assert own == sorted(own)
