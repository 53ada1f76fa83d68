"""The client itself: checks what a bot asks for, sends it, and tells whether it arrived."""

from __future__ import annotations

import base64
import math
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, Self
from urllib.parse import quote

from worker.client.feed import Feed, Recent
from worker.client.http import Api
from worker.coordination.redis import RedisCoordinator
from worker.jobs import requests
from worker.jobs.errors import Conflict, NotFound, Rejected, Transient
from worker.jobs.model import Request, job_id
from worker.jobs.states import Action, Cause, State

#: Ids of events that are remembered to drop their repeats.
REMEMBERED_MAX = 10_000
#: First and longest wait between two questions whether a job is recorded.
ASK_FIRST_S = 0.02
ASK_MAX_S = 0.5

#: Of a `.torrent` file that goes through the intake, which lies in Redis's memory; the API takes larger ones.
TORRENT_BYTES_MAX = 1024 * 1024

_JOB_ID = re.compile(r"[0-9a-f]{24}")


@dataclass(frozen=True, slots=True)
class Ticket:
    """The receipt for a request.

    Attributes:
        status: `accepted`: it will become a record, unless Redis loses its unread intake; repeating the call is safe when it
            has a key. `queued`: it is a record, and reaches an end whatever is killed in between.
    """

    id: str
    status: Literal["accepted", "queued"]


Tickets = list[Ticket]


class Client:
    """A door to Haul for other programs; safe for many threads. Make one per process, after a fork.

    Args:
        redis_url: the Redis of the stack, `redis://:password@host:port/0`.
        api_url: its HTTP API, such as `http://127.0.0.1:8060`; needed by `get`, `list` and `why` only.
        api_key: one of the API's keys, when it has any.
        prefix: the stack's `HAUL_KEY_PREFIX`.
    """

    def __init__(self, redis_url: str, api_url: str | None = None, api_key: str | None = None, prefix: str = "haul") -> None:
        self._coordinator = RedisCoordinator(redis_url, prefix=prefix)
        self._api = Api(api_url, api_key) if api_url else None
        self._closed = threading.Event()
        self._feed = Feed(self._coordinator, self._closed)

    def enqueue(
        self,
        uri: str | None = None,
        *,
        user: str | int,
        torrent: bytes | None = None,
        key: str | int | None = None,
        tier: str | None = None,
        priority: int = 0,
        sha256: str | None = None,
        name: str | None = None,
        engine: str | None = None,
        select: str | Sequence[int] | None = None,
        seed_ratio: float | None = None,
        category: str | None = None,
        max_speed: int | str | None = None,
        webhook: str | None = None,
        confirm_s: float = 0.0,
    ) -> Ticket:
        """Ask for a download.

        Args:
            uri: http, https, ftp or magnet.
            user: who asks; jobs take turns by user.
            torrent: in place of `uri`, the bytes of a `.torrent` file of at most 1 MiB; the HTTP API takes larger ones.
            key: the bot's own name for the request, such as `chat:message`. Asked for again it is the same job, never a
                second download.
            tier: whose limits count, `free` when left out.
            priority: 0 to 1000; of a user's own jobs the larger goes first.
            sha256: 64 hexadecimal digits; the job fails unless its one file has this checksum.
            name: of the file; the server's when left out.
            engine: by its name; the strategy of the stack chooses when left out.
            select: files of a torrent or metalink, by number from 1, as numbers or as `1,3-5`; all when left out.
            seed_ratio: seed a torrent until so much was given for each byte of it; not at all when left out.
            category: at the engine, where it has such a thing.
            max_speed: bytes a second that it may take, or a text such as `2 MiB`.
            webhook: where the job's events are posted: one of the stack's `HAUL_WEBHOOKS`; the first of them when left out.
            confirm_s: wait so long to hear that it is recorded; the ticket stays `accepted` when the time is over. Without
                `api_url` a key that was known before is not confirmed.

        Raises:
            Rejected: it cannot be taken; names the field and the fix. Nothing was sent, unless `confirm_s` let the stack
                itself refuse.
            Conflict: with `confirm_s`: the key is known with another source.
            Transient: Redis does not answer; the message may or may not have been taken. Repeat it with the same key.
        """
        given = {
            "uri": uri,
            "torrent": torrent,
            "user": user,
            "key": key,
            "tier": tier,
            "priority": priority,
            "sha256": sha256,
            "name": name,
            "engine": engine,
            "select": list(select) if isinstance(select, Sequence) and not isinstance(select, str) else select,
            "seed_ratio": seed_ratio,
            "category": category,
            "max_speed": max_speed,
            "webhook": webhook,
        }
        body, request = _checked(given)
        place = None if confirm_s <= 0 or self._api else self._feed.now()
        self._coordinator.offer([body])
        if confirm_s <= 0:
            return Ticket(body["id"], "accepted")
        deadline = time.monotonic() + confirm_s
        known = self._api_shows(body["id"], request, deadline) if place is None else self._feed.tells_of(body["id"], place, deadline)
        return Ticket(body["id"], "queued" if known else "accepted")

    def enqueue_many(self, specs: Sequence[Mapping[str, Any]]) -> Tickets:
        """Ask for many downloads in one round trip; all are checked before any is sent.

        Args:
            specs: the arguments of `enqueue` by name, `user` and one of `uri` and `torrent` in each.

        Raises:
            Rejected, Transient: as `enqueue`; a repeat is safe for those with a key.
        """
        bodies = [*_checked_all(specs)]
        if bodies:
            self._coordinator.offer(bodies)
        return [Ticket(body["id"], "accepted") for body in bodies]

    def control(self, id: str, action: str) -> None:
        """Ask to `pause`, `resume`, `cancel` or `retry` a job, after all that this client asked for before.

        An action that the job's state does not allow changes nothing; the events tell what happened.

        Raises:
            Rejected: no job has such an id, or there is no such action.
            Transient: Redis does not answer; repeating is safe.
        """
        known_form = _checked_id(id)
        if action not in set(Action):
            raise Rejected("action", f"there is no action {action!r}", fix=f"one of: {', '.join(Action)}")
        self._coordinator.offer([{"kind": "control", "job": known_form, "action": str(action)}])

    def events(self, user: str | int | None = None, after: str | None = None, wait_s: float | None = None) -> Iterator[dict[str, Any]]:
        """What happens to jobs, as it happens; in order per job, repeats dropped, outages of Redis waited out.

        Each event carries `place`: pass the one dealt with last as `after` to go on from there, after a restart too; what
        was told since then is not lost. `{"type": "reset", "since": …}` says that the place is gone from the stream: list the
        jobs changed since then (wall clock, seconds), and go on.

        Args:
            user: only this user's events.
            after: None begins with what happens from now on.
            wait_s: end after so long without an event; None never ends before `close`.

        Raises:
            Rejected: `after` is no place.
        """
        seen = Recent(REMEMBERED_MAX)
        for found, before, behind in self._feed.batches(after, math.inf if wait_s is None else wait_s):
            for event in found:
                mine = user is None or event.get("user", str(user)) == str(user)
                if mine and seen.add(event.get("id")):
                    # The place behind a batch is not reached before its last event: who stops earlier sees some again.
                    yield {**event, "place": behind if event is found[-1] else before}

    def get(self, id: str) -> dict[str, Any]:
        """A job with its progress and timeline, by HTTP.

        Raises:
            NotFound: no such job.
            Rejected: it is no id, the API refused, or the client was made without `api_url`.
            Transient: the API, or a service behind it, does not answer.
        """
        return self._http().get(f"/v1/jobs/{_checked_id(id)}")

    def why(self, id: str) -> dict[str, Any]:
        """Why a job is where it is: `text` for its user, `reason`, `ahead` and `retry_in_s`; raises as `get` does."""
        return self._http().get(f"/v1/jobs/{_checked_id(id)}/why")

    def limits(self, user: str | int, tier: str | None = None) -> dict[str, Any]:
        """What a user may have and has: `limits`, `requests`, `starts`, `running`, `queued`, `bytes_today`, `next_request_in_s`, …

        Raises as `get` does.

        Args:
            tier: None for that of his newest job.
        """
        return self._http().get(f"/v1/limits/{quote(str(user), safe='')}", {"tier": tier})

    def list(
        self, user: str | int | None = None, state: str | Sequence[str] | None = None, cursor: str | None = None, limit: int = 50
    ) -> dict[str, Any]:
        """A page of jobs, newest first: `{"jobs": […], "cursor": …}`; raises as `get` does.

        Args:
            state: one or several; None for all.
            cursor: the one of the page before; it is None at the end.
        """
        return self._http().get("/v1/jobs", {"user": user, "state": state, "cursor": cursor, "limit": limit})

    def close(self) -> None:
        """End every iterator of `events` and the connections; idempotent."""
        self._closed.set()
        self._coordinator.close()
        if self._api:
            self._api.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _http(self) -> Api:
        if self._api is None:
            raise Rejected("api_url", "is needed for this call", fix="Client(redis_url, api_url='http://127.0.0.1:8060')")
        return self._api

    def _api_shows(self, id: str, request: Request, deadline: float) -> bool:
        """Whether the API shows the job before the deadline."""
        wait_s = ASK_FIRST_S
        while (left_s := deadline - time.monotonic()) > 0 and not self._closed.is_set():
            with suppress(NotFound, Transient):
                return _recorded(self._http().get(f"/v1/jobs/{id}", timeout_s=left_s), request)
            self._closed.wait(min(wait_s, left_s))
            wait_s = min(2 * wait_s, ASK_MAX_S)
        return False


def _checked_id(id: object) -> str:
    if not _JOB_ID.fullmatch(str(id)):
        raise Rejected("id", "is not the id of a job", fix="use the id of a ticket or an event")
    return str(id)


def _checked(spec: Mapping[str, Any]) -> tuple[dict[str, Any], Request]:
    """The intake message of a request, and the request as the stack will read it. Raises Rejected."""
    given = {name: value for name, value in spec.items() if value is not None}
    if "torrent" in given:
        given["torrent"] = _torrent_text(given["torrent"])
    request = requests.parse(given)
    return {"kind": "request", "id": job_id(request.user, request.key), "spec": given}, request


def _torrent_text(document: object) -> str:
    if not isinstance(document, bytes):
        raise Rejected("torrent", "must be bytes", fix="the content of a .torrent file")
    if len(document) > TORRENT_BYTES_MAX:
        raise Rejected(
            "torrent", f"is larger than {TORRENT_BYTES_MAX} bytes", fix="send it to the HTTP API, POST /v1/jobs, or use the magnet link"
        )
    return base64.b64encode(document).decode()


def _checked_all(specs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for number, spec in enumerate(specs):
        try:
            yield _checked(spec)[0]
        except Rejected as error:
            raise Rejected(f"specs[{number}].{error.field}", error.detail, fix=error.fix) from None


def _recorded(view: Mapping[str, Any], request: Request) -> bool:
    """True, for a job as the API shows it; raises when it is not what was asked for."""
    if view.get("state") == State.FAILED and view.get("cause") == Cause.REFUSED:
        raise Rejected("request", str(view.get("message")))
    if view.get("source") != request.source.shown:
        raise Conflict("key", f"{request.key!r} is known with another source, in job {view.get('id')}", fix="use another key")
    return True
