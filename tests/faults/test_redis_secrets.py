"""Redis: what a listener may learn.

A URL carries its user's password or token. It is on the record, in an unread request, and at the engine; nowhere else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests
from redis import Redis

from tests.e2e.stack import Stack, eventually
from tests.faults.catalogue import fault
from tests.faults.redis_roles import START_S, log_of, roles
from worker.celery import HaulApp, create_app
from worker.cli.servers import free_port
from worker.client import Client

TOKEN, PASSWORD = "tok-5ecret-7f3a", "pw-5ecret-91bc"
SIZE = 50_000


@contextmanager
def listening(app: HaulApp) -> Iterator[list[dict[str, Any]]]:
    """Every event that Celery's processes send, as Flower hears them."""
    heard: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": heard.append})
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False), daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            receiver.should_stop = True
            thread.join(10)


def everything(redis: Redis) -> str:
    """All keys of Redis with their values."""
    readers = {
        "string": redis.get,
        "hash": redis.hgetall,
        "list": lambda key: redis.lrange(key, 0, -1),
        "set": redis.smembers,
        "zset": lambda key: redis.zrange(key, 0, -1, withscores=True),
        "stream": redis.xrange,
    }
    return "\n".join(f"{key} {readers[redis.type(key)](key)}" for key in redis.scan_iter() if redis.exists(key))


def haul(stack: Stack, *arguments: str) -> str:
    """What a command of `haul` prints."""
    command = [sys.executable, "-W", "ignore", "-m", "worker.cli", *arguments]
    return subprocess.run(command, env={**os.environ, **stack.environment()}, capture_output=True, text=True, timeout=60, check=True).stdout


def sources(stack: Stack) -> dict[str, str]:
    """Addresses with secrets, by what becomes of them; and one whose path nobody finds is tried again."""
    host = stack.origin.url("").removeprefix("http://").rstrip("/")
    secret = f"size={SIZE}&token={TOKEN}"
    return {
        "in the query": f"http://{host}/file/query?{secret}",
        "in the user part": f"http://ann:{PASSWORD}@{host}/auth/basic?user=ann&password={PASSWORD}&{secret}",
        "tried again": f"http://ann:{PASSWORD}@{host}/flaky/again?fails=7&status=503&{secret}",
        "refused by the server": f"http://ann:{PASSWORD}@{host}/status/403?{secret}",
        "a document that is none": f"http://ann:{PASSWORD}@{host}/file/none.torrent?{secret}",
    }


@fault(
    "Somebody reads Celery's events, logs, `inspect`, Redis, metrics and lists",
    provoked="jobs whose addresses carry a token and a password, that succeed, are tried again and fail; with all of these recorded",
    holds="neither is in any of them, but in the unread request and on the record",
)
def test_tokens_and_passwords_of_addresses_are_shown_nowhere(stack: Stack) -> None:
    port = free_port()
    stack.run("worker.cli", "api", HAUL_API_PORT=str(port), HAUL_LOG_LEVEL="debug")
    roles(stack, HAUL_LOG_LEVEL="debug")
    app, api = create_app(stack.settings), f"http://127.0.0.1:{port}"
    with (
        listening(app) as heard,
        closing(Redis.from_url(stack.redis.url, decode_responses=True, encoding_errors="replace")) as redis,
        Client(stack.redis.url) as bot,
    ):
        ids = [bot.enqueue(uri, user=user).id for user, uri in sources(stack).items()]
        eventually(lambda: answers(f"{api}/health"), "the API answers", START_S, stack.tail)
        ids += [asked(api, uri, f"{user}, by HTTP") for user, uri in sources(stack).items()]
        inspect = app.control.inspect(timeout=2.0)
        seen = {"inspect": json.dumps([inspect.active(), inspect.reserved(), inspect.scheduled(), inspect.stats()])}
        jobs = {id: stack.until(id, "done", "failed", timeout_s=60) for id in ids}
        assert {job.state for job in jobs.values()} == {"done", "failed"}
        assert any(job.failures for job in jobs.values()), "some was tried again"
        eventually(lambda: not stack.services.store.unsent(1), "all is told")

        seen["inspect, later"] = json.dumps([inspect.active(), inspect.reserved(), inspect.stats()])
        seen["Redis"] = everything(redis)
        seen["API"] = "".join(requests.get(f"{api}{path}", timeout=10).text for path in ("/metrics", "/v1/jobs?limit=100", "/v1/queue"))
        seen["API, each job"] = "".join(requests.get(f"{api}/v1/jobs/{id}", timeout=10).text for id in ids)
        seen["API, why"] = "".join(requests.get(f"{api}/v1/jobs/{id}/why", timeout=10).text for id in ids)
        seen["haul list"] = haul(stack, "list", "--json")
        seen["haul show"] = "".join(haul(stack, "show", id) for id in ids[:2])
        events = {event["type"] for event in heard}
    assert {"task-sent", "task-received", "task-succeeded"} <= events, events
    seen["events"] = json.dumps(heard, default=str)
    seen["logs"] = log_of(stack) + Path(stack.directory / "valkey.log").read_text(errors="replace")
    assert "/file/query" in seen["haul list"], "addresses are shown, without what is secret in them"
    assert all(seen.values())
    told = {where: [secret for secret in (TOKEN, PASSWORD) if secret in text] for where, text in seen.items()}
    shown = {where: around(seen[where], secrets[0]) for where, secrets in told.items() if secrets}
    assert not shown
    assert all(TOKEN in job.source.uri for job in jobs.values()), "the record has it"


def around(text: str, secret: str) -> str:
    """Where a secret was found."""
    at = text.index(secret)
    return text[max(0, at - 200) : at + 100]


def answers(url: str) -> bool:
    """Whether the API is up."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def asked(api: str, uri: str, user: str) -> str:
    """The id of a job that the API took."""
    answer = requests.post(f"{api}/v1/jobs", json={"uri": uri, "user": user}, timeout=20)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])
