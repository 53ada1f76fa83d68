"""Jobs and messages that kill the process that works on them, and messages that nobody can read."""

from __future__ import annotations

import base64
import json
import signal
import uuid
from typing import Any

import pytest
from redis import Redis

from tests.e2e.stack import Stack, digest, eventually, story
from tests.faults.catalogue import fault
from tests.torrents import pack, web_seeded
from worker import pipeline
from worker.client import Client
from worker.jobs.model import job_id
from worker.jobs.states import Cause
from worker.limits import LEASE_S
from worker.tries import TRIES_MAX

SIZE = 50_000
NEIGHBOURS = 5
POISON = job_id("ann", "poison")
CELERY = ("celery", "-A", "worker", "worker", "--without-gossip", "--without-mingle", "--concurrency", "2", "--pool")


@pytest.fixture
def supervised(stack: Stack) -> Stack:
    """The stack with a supervisor in a process of its own, which does not die with the workers."""
    supervisor = stack.run("worker.cli", "supervise")
    eventually(lambda: stack.owner() == supervisor.pid, "the supervisor looks after the engine", seen=stack.tail)
    return stack


def begun(redis: Redis, step: str, id: str) -> int:
    """How often work on it was begun and not ended."""
    return int((redis.get(f"haul:begun:{step}:{id}") or "0 ").split()[0])


def forget_claims(redis: Redis, stack: Stack) -> None:
    """The claims of a dead worker run out in ten or twenty seconds; the test does not wait for that."""
    for key in redis.scan_iter("haul:claim:*"):
        redis.delete(key)
    for step in (*redis.scan_iter("haul:nudge:*"),):
        redis.delete(step)
    stack.services.coordinator.wake("sweeper")


def neighbours(stack: Stack) -> list[str]:
    """Jobs that come at the same time as the poison."""
    return stack.ask_all([{"uri": f"file/n{n}?size={SIZE}&seed={n}", "user": "bob", "key": str(n)} for n in range(NEIGHBOURS)])


def check_given_up(stack: Stack, others: list[str], doing: str) -> None:
    """The poison has failed and says why, and nobody else paid for it."""
    job = stack.until(POISON, "failed", timeout_s=60)
    assert (job.cause, job.message) == (Cause.WORKER, f"the worker died {TRIES_MAX} times while {doing}"), story(job)
    assert stack.told(POISON)[-1] == "job.failed"
    # A process may have died while it held admission too: its lease is waited for.
    for n, other in enumerate(stack.until_all(others, timeout_s=LEASE_S + 30)):
        stack.check_delivered(other.id, digest(SIZE, n))
        assert stack.told(other.id) == ["job.queued", "job.started", "job.completed"]
    assert {stack.origin.requests[f"/file/n{n}"] for n in range(NEIGHBOURS)} == {1}, "each was downloaded once"


def check_retried(stack: Stack) -> None:
    """A retry starts anew: with a worker that it does not kill, the job ends."""
    stack.act(POISON, "retry")
    stack.until(POISON, "done", timeout_s=60)
    assert stack.job(POISON).attempt == 2


# ---- jobs ------------------------------------------------------------------------------------------------------------


@fault(
    "A job kills each process of a prefork pool that finishes it",
    provoked="SIGKILL to the child when it has begun with that job, every time; five other jobs are finished in the same batch",
    holds="after four deaths the job is failed with cause `worker` and its event; the others are done once; the messages of the dead "
    "children come to an end; a retry starts anew",
)
def test_a_job_that_kills_the_children_of_a_pool_fails_after_four_of_them(supervised: Stack, redis: Redis) -> None:
    stack = supervised
    worker = stack.run(*CELERY, "prefork", HAUL_FAILPOINT=f"finish.begun@{POISON}:kill:1")
    stack.ask(f"file/poison?size={SIZE}", "ann", "poison")
    others = neighbours(stack)
    for deaths in range(1, TRIES_MAX + 1):
        eventually(lambda: begun(redis, "finish", POISON) == deaths, f"it is begun {deaths} times", seen=stack.tail)  # noqa: B023
        eventually(lambda: killed_children(stack) >= deaths, "the child is dead", seen=stack.tail)  # noqa: B023
        forget_claims(redis, stack)

    check_given_up(stack, others, "it checked the job and moved it into place")
    assert killed_children(stack) == TRIES_MAX
    assert worker.ended() is None
    assert begun(redis, "finish", POISON) == 0
    eventually(lambda: not waiting(redis), "no message of a dead child is left", seen=lambda: waiting(redis))
    worker.kill()
    stack.work(ready=False)
    check_retried(stack)


def killed_children(stack: Stack) -> int:
    return stack.tail(100_000).count("exited with 'signal 9")


def waiting(redis: Redis) -> list[str]:
    """Messages for `finish` that a worker has, or that wait for one."""
    messages = [*redis.hvals("unacked"), *redis.lrange("haul.jobs", 0, -1)]
    return [message for message in messages if "haul.finish" in message]


@fault(
    "A job kills every worker that finishes it, or that reads its .torrent file",
    provoked="SIGKILL to the whole process when it has begun with that job, every time; another worker is started each time",
    holds="after four deaths the job is failed with cause `worker` and its event; the others are done once; a retry starts anew",
)
@pytest.mark.parametrize(
    ("step", "point", "doing"),
    [
        ("finish", "finish.begun", "it checked the job and moved it into place"),
        ("describe", "describe.kept", "it fetched and read the .torrent file"),
    ],
)
def test_a_job_that_kills_its_worker_fails_after_four_of_them(supervised: Stack, redis: Redis, step: str, point: str, doing: str) -> None:
    stack = supervised
    made = web_seeded(stack.origin, pack({"x.bin": b"x" * SIZE}, name="x.bin", single=True))
    stack.ask(stack.origin.document("poison.torrent", made.document), "ann", "poison")
    others = neighbours(stack)
    for deaths in range(1, TRIES_MAX + 1):
        worker = stack.work(ready=False, HAUL_FAILPOINT=f"{point}@{POISON}:kill:1")
        eventually(lambda: worker.ended() is not None, "it dies", 60, stack.tail)  # noqa: B023
        assert worker.ended() == -signal.SIGKILL
        assert begun(redis, step, POISON) == deaths
        forget_claims(redis, stack)

    last = stack.work(ready=False, HAUL_FAILPOINT=f"{point}@{POISON}:kill:1")
    check_given_up(stack, others, doing)
    assert last.ended() is None
    last.kill()
    forget_claims(redis, stack)
    stack.work(ready=False)
    check_retried(stack)


# ---- messages --------------------------------------------------------------------------------------------------------


@fault(
    "A message of the intake kills every worker that deals with it",
    provoked="SIGKILL to the process when it is about to record that request, every time; another worker is started each time",
    holds="after four deaths the message is parked and counted; the requests and wishes before and behind it take effect",
)
def test_a_message_that_kills_its_worker_is_parked_after_four_of_them(supervised: Stack, redis: Redis) -> None:
    stack = supervised
    with Client(stack.redis.url) as client:
        slow = f"&rate={SIZE // 60}"  # not done before it is cancelled
        uris = [stack.origin.url(f"file/n{n}?size={SIZE}&seed={n}{slow if n else ''}") for n in range(3)]
        first, _, last = client.enqueue_many(
            [{"uri": uri, "user": "ann", "key": key} for uri, key in zip(uris, ("first", "poison", "last"), strict=True)]
        )
        client.control(last.id, "cancel")
    for _ in range(TRIES_MAX):
        worker = stack.work(ready=False, HAUL_FAILPOINT=f"intake.taken@{POISON}:kill:1")
        eventually(lambda: worker.ended() is not None, "it dies", 60, stack.tail)  # noqa: B023
        assert worker.ended() == -signal.SIGKILL
        grow_old(redis)
        forget_claims(redis, stack)
    stack.work(ready=False, HAUL_FAILPOINT=f"intake.taken@{POISON}:kill:1")

    eventually(lambda: stack.services.coordinator.intake_size() == 0, "the intake is empty", 60, stack.tail)
    for id, end in ((last.id, "cancelled"), (first.id, "done")):
        stack.until(id, end, timeout_s=LEASE_S + 30)
    stack.check_delivered(first.id, digest(SIZE, 0))
    assert pipeline.overview(stack.services)["parked"] == 1
    assert stack.services.store.get([POISON]) == {}


def grow_old(redis: Redis) -> None:
    """What a dead worker had read is read again after ten seconds; the test does not wait for that."""
    for entry in redis.xpending_range("haul:intake", "haul", "-", "+", 100):
        redis.xclaim("haul:intake", "haul", entry["consumer"], 0, [entry["message_id"]], idle=3_600_000, justid=True)


def message(task: str = "haul.sweep", *, body: Any = None, content_type: str = "application/json", **headers: Any) -> dict[str, Any]:
    """A task as Celery writes it, but for what is given."""
    id = str(uuid.uuid4())
    text = json.dumps([[], {}, {}] if body is None else body) if not isinstance(body, bytes) else body.decode()
    return {
        "body": base64.b64encode(text.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": id, "root_id": id, "retries": 0, "timelimit": [None, None], **headers},
        "properties": {
            "correlation_id": id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "haul.control"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": f"stranger-{id}",
        },
    }


#: Texts that no worker can do anything with.
UNREADABLE: tuple[bytes, ...] = (
    b"{oops",
    b"[1,2]",
    b"\xff\xfe",
    b"[" * 50_000,
    *(
        json.dumps(text).encode()
        for text in (
            {"body": "x"},
            {**message(), "properties": {"delivery_info": {}}},
            {**message(), "properties": []},
            {**message(), "body": "&&&&"},
            {**message(), "headers": None},
            {**message(), "headers": {}},
            message(body=b"{nope"),
            message(body={"a": 1}),
            message(body=[[], {}]),
            message(content_type="application/x-python-serialize"),
            message(content_type="application/whatever"),
            message(compression="application/x-what"),
            message(timelimit="x"),
            message(eta="never"),
            message("haul.nothing-of-ours"),
        )
    ),
)
#: Tasks of ours with arguments that are not.
WRONG = (message("haul.enqueue", body=[[1, 2, 3], {}, {}]), message("haul.finish", body=[[], {"a": 1}, {}]))


@fault(
    "Messages that nobody can decode lie in the queues and in the intake",
    provoked=f"{len(UNREADABLE)} kinds of them, written to Redis past all doors: no JSON, no message, pickle, an unknown task, odd fields",
    holds="each is parked and counted once, none comes back, no worker ends or restarts, and the next job is done at once",
)
@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_messages_that_nobody_can_decode_are_parked_and_end_no_worker(supervised: Stack, redis: Redis, pool: str) -> None:
    stack = supervised
    worker = stack.run(*CELERY, pool)
    stack.check_delivered(stack.ask(f"file/before?size={SIZE}", "ann"), digest(SIZE))
    parked = lambda: pipeline.overview(stack.services)["parked"]  # noqa: E731

    redis.lpush("haul.control", *UNREADABLE, *(json.dumps(wrong) for wrong in WRONG))
    strangers = (b"{not json", b"[1,2]", b'{"kind": "?"}', b'{"kind": "control", "job": "x", "action": "explode"}')
    for text in strangers:
        redis.xadd("haul:intake", {"body": text})
    stack.services.coordinator.wake("sweeper")

    eventually(lambda: parked() == len(UNREADABLE) + len(strangers), "all are put aside", seen=lambda: (parked(), stack.tail()))
    eventually(lambda: not strange(redis), "none is left", seen=lambda: strange(redis))
    stack.check_delivered(stack.ask(f"file/after?size={SIZE}&seed=1", "ann"), digest(SIZE, 1))
    assert worker.ended() is None
    assert parked() == len(UNREADABLE) + len(strangers)
    assert "Connection to broker lost" not in stack.tail(100_000)
    check_nothing_is_shown(stack)


def strange(redis: Redis) -> list[str]:
    """Tags of strangers' messages that a worker holds on to, and how many texts wait."""
    return [*(tag for tag in redis.hkeys("unacked") if tag.startswith("stranger")), *redis.lrange("haul.control", 0, 0)]


def check_nothing_is_shown(stack: Stack) -> None:
    """The texts, which may hold addresses with passwords, are not in the log."""
    assert "{oops" not in stack.tail(100_000)
    assert "&&&&" not in stack.tail(100_000)
