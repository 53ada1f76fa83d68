"""Webhooks

Real receivers over HTTP, on stacks with real workers. Every post a receiver sees is checked for its signature, its id and its place.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from tests.receivers import HANG, RESET, Event, Receiver

SECRET = "what the stack and its receivers know"
SIZE = 20_000
#: A worker that died holds its claim, its leases and its message for a while; a receiver that is down rests.
SOON_S = 60.0
LATER_S = 90.0
WHOLE = ["queued", "started", "completed"]


class HookedStack(Stack):
    """A stack that posts to these receivers."""

    def __init__(self, directory: Path, *receivers: Receiver) -> None:
        super().__init__(directory)
        self.receivers = receivers

    def environment(self) -> dict[str, str]:
        hooks = {"HAUL_WEBHOOKS": ",".join(receiver.url for receiver in self.receivers), "HAUL_WEBHOOK_SECRET": SECRET}
        return super().environment() | hooks

    def some(self, count: int, user: str, **spec: str) -> list[str]:
        """Ask for some small files; the ids of the jobs."""
        return self.ask_all([{"uri": f"file/{user}{n}?size={SIZE}&seed={n}", "user": user, **spec} for n in range(count)])

    def until_told(self, receiver: Receiver, ids: list[str], events: list[str] = WHOLE, timeout_s: float = SOON_S) -> None:
        """Return when the receiver took these events of each job, once all is done; then check every post."""
        seen = lambda: f"{[(id, receiver.types(id)) for id in ids if receiver.types(id) != events][:3]}\n{self.tail(30)}"  # noqa: E731
        eventually(lambda: all(receiver.types(id) == events for id in ids), "all is told to the webhook", timeout_s, seen)
        eventually(lambda: not any(self.job(id).unposted for id in ids), "all is marked as told", timeout_s, self.tail)
        receiver.check()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET) as receiver:
        yield receiver


@pytest.fixture
def other() -> Iterator[Receiver]:
    with Receiver(SECRET) as receiver:
        yield receiver


@pytest.fixture
def stack(tmp_path: Path, receiver: Receiver, other: Receiver) -> Iterator[HookedStack]:
    """A stack of this test alone; jobs that name none are told to `receiver`."""
    with HookedStack(tmp_path / "stack", receiver, other) as running:
        yield running


def answering(answers: dict[str, int | str]) -> Callable[[Event], int | str]:
    """Answers by job; 204 to all others."""
    return lambda event: answers.get(event["job"], 204)


@fault(
    "A receiver answers 500 to one job, hangs over another and resets the connection of a third",
    provoked="a receiver that does so to the first post of each, among jobs that it takes",
    holds="every event arrives in its job's order under one id; the other jobs do not wait; the stream is told meanwhile",
)
def test_a_receiver_that_fails_for_some_jobs_is_told_them_later_and_the_others_at_once(stack: HookedStack, receiver: Receiver) -> None:
    bad = stack.some(3, "bad")
    receiver.answer = answering(dict(zip(bad, (500, HANG, RESET), strict=True)))
    good = stack.some(10, "good")
    stack.work()

    stack.until_told(receiver, good)
    stack.until_all(bad)
    assert [stack.told(id) for id in bad] == [["job.queued", "job.started", "job.completed"]] * 3
    eventually(lambda: all(receiver.of(id) for id in bad), "each of them was tried", SOON_S, stack.tail)
    assert all({post.event["type"] for post in receiver.of(id)} == {"job.queued"} for id in bad), "what comes later waits"

    receiver.answer = answering({})
    stack.until_told(receiver, bad, timeout_s=LATER_S)


@fault(
    "A receiver hangs for every event, and the process of another one dies and comes back",
    provoked="a receiver that answers nothing, and one whose port is closed and opened again",
    holds="jobs of a third receiver are told within seconds, in their order, and so is the stream; those that come back are told all",
)
def test_a_dead_receiver_holds_up_neither_other_receivers_nor_the_stream(tmp_path: Path, receiver: Receiver, other: Receiver) -> None:
    with Receiver(SECRET) as dead, HookedStack(tmp_path / "stack", receiver, other, dead) as stack:
        other.answer = lambda _: HANG
        dead.stop()
        hanging, unheard = stack.some(12, "hanging", webhook=other.url), stack.some(12, "unheard", webhook=dead.url)
        stack.work()
        stack.until_all([*hanging, *unheard])
        good = stack.some(12, "good")
        stack.until_told(receiver, good, timeout_s=30)
        assert all(stack.told(id)[-1] == "job.completed" for id in [*hanging, *unheard])
        assert not any(other.events(id) for id in hanging)
        assert not any(dead.posts)

        dead.start()
        other.answer = lambda _: 204
        stack.until_told(dead, unheard, timeout_s=LATER_S)
        stack.until_told(other, hanging, timeout_s=LATER_S)


@fault(
    "Redis loses everything before an event is delivered",
    provoked="FLUSHALL after the jobs are done, while their receiver is down",
    holds="every event is posted, in order, as soon as the receiver is back",
)
def test_what_redis_forgets_is_told_from_the_records(stack: HookedStack, receiver: Receiver) -> None:
    receiver.stop()
    ids = stack.some(8, "ann")
    stack.work()
    stack.until_all(ids)
    with Redis.from_url(stack.redis.url) as redis:
        redis.flushall()
    assert all([event.type for event in stack.job(id).unposted] == ["job.queued", "job.started", "job.completed"] for id in ids)
    receiver.start()
    stack.until_told(receiver, ids, timeout_s=LATER_S)


@pytest.mark.parametrize("point", ["webhook.post", "webhook.mark"])
@fault(
    "A worker dies before it posts an event, or between the post and its mark",
    provoked="a failpoint that kills the process there",
    holds="the next worker posts it again under the same id, nothing is left out and nothing changes its place",
)
def test_what_a_worker_took_with_it_is_posted_again_under_the_same_id(stack: HookedStack, receiver: Receiver, point: str) -> None:
    first = stack.work(HAUL_FAILPOINT=f"{point}:kill:1")
    ids = stack.some(1, "ann")
    eventually(lambda: first.ended() is not None, "the worker dies", SOON_S, stack.tail)
    assert first.ended() == -signal.SIGKILL, stack.tail()
    before = [post.event["id"] for post in receiver.posts]
    stack.work(ready=False)
    stack.until_told(receiver, ids, timeout_s=LATER_S)
    after = [post.event["id"] for post in receiver.posts[len(before) :]]
    assert (before[:1], after[0]) == ([] if point == "webhook.post" else [f"{ids[0]}:1"], f"{ids[0]}:1")


@fault(
    "Several workers post at once, and one of them is killed in the middle",
    provoked="two workers, 60 jobs, a receiver that takes its time, and kill -9 while posts are under way",
    holds="every event arrives, and no job's events change places however often one is repeated",
)
def test_several_workers_post_each_jobs_events_in_order(stack: HookedStack, receiver: Receiver) -> None:
    first = stack.work()
    stack.work(ready=False)
    ids = stack.some(60, "ann")
    eventually(lambda: len(receiver.posts) >= 20, "posts are under way", SOON_S, stack.tail)
    first.kill()
    stack.until_told(receiver, ids, timeout_s=LATER_S)
