"""The event stream as server-sent events: every viewer has a place of its own, one blocking read wakes them all."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Header, Query
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from worker import logs
from worker.api.schemas import EventsQuery
from worker.jobs.errors import Rejected, Transient
from worker.ports import Coordinator, StreamReset

log = logs.get(__name__)

VIEWERS_MAX = 200
KEEP_ALIVE_S = 15.0
#: A viewer that takes nothing for so long is gone, whatever its connection says.
SEND_TIMEOUT_S = 30.0
#: The length of one blocking read: by so much it may outlive the last viewer.
TAIL_WAIT_S = 1.0
BATCH_EVENTS_MAX = 200
#: Wait after a read that failed, and what a browser is told to wait before it comes back.
RETRY_S = 2.0

#: Events and the place behind the last of them.
Batch = tuple[Sequence[Mapping[str, Any]], str]


class Viewers:
    """Those who watch the stream; no more than `VIEWERS_MAX` at once.

    A viewer reads from its own place, so it misses no event however slow it is, and nothing is queued for it. While
    there are viewers one blocking read tells all of them that the stream has grown.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._watching = 0
        self._grown = asyncio.Event()
        self._tail: asyncio.Task[None] | None = None
        self._closing = False

    async def watch(
        self,
        query: Annotated[EventsQuery, Query()],
        last_event_id: Annotated[str | None, Header(description="the `id` that came last; what happened since follows")] = None,
    ) -> StreamingResponse:
        """Events as they happen, or from the place of `Last-Event-ID` on; at least once, in order per job.

        The event `reset` says that the place is gone: list the jobs changed since its `since`, then read on.
        A comment comes every 15 s when nothing else does.
        """
        if self._watching >= VIEWERS_MAX:
            raise HTTPException(503, f"there are {VIEWERS_MAX} viewers already", {"Retry-After": "10"})
        self._watching += 1
        grown = self._grown
        try:
            first = await self._read(last_event_id or None)
        except BaseException as error:
            self._left()
            if isinstance(error, Rejected):
                raise Rejected("Last-Event-ID", error.detail, fix="send the `id` that came last, or leave the header out") from None
            raise
        if self._tail is None or self._tail.done():
            self._tail = asyncio.create_task(self._follow())
        return EventStream(self._frames(first, grown, query.user), self._left)

    def close(self) -> None:
        """End every stream; to be called on the event loop."""
        self._closing = True
        self._wake()

    async def _frames(self, batch: Batch, grown: asyncio.Event, user: str | None) -> AsyncIterator[bytes]:
        """The batch and all that follow; `grown` was taken before the batch was read."""
        yield f"retry: {RETRY_S * 1000:.0f}\n\n".encode()
        while not self._closing:
            events, place = batch
            yield frames(events, place, user)
            if not events and not await _set_within(grown, KEEP_ALIVE_S):
                yield b": keep-alive\n\n"
            grown = self._grown  # what comes while the read is under way must wake us after it
            try:
                batch = await self._read(place)
            except Transient:
                await asyncio.sleep(RETRY_S)
                batch = (), place

    async def _read(self, place: str | None) -> Batch:
        try:
            return await asyncio.to_thread(self._coordinator.read_events, place, BATCH_EVENTS_MAX, 0.0)
        except StreamReset as reset:
            return ({"type": "reset", "since": reset.since},), reset.after

    async def _follow(self) -> None:
        """Wake the viewers whenever the stream has grown, until the last is gone.

        The first look wakes them too: somebody may have read before this place was known.
        """
        place: str | None = None
        while self._watching and not self._closing:
            wait_s = TAIL_WAIT_S if place else 0.0
            try:
                events, new = await asyncio.to_thread(self._coordinator.read_events, place, BATCH_EVENTS_MAX, wait_s)
            except StreamReset as reset:
                events, new, place = [], reset.after, None
            except Transient as error:
                log.warning("the event stream is not reachable; its viewers wait", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            if events or place is None:
                self._wake()
            place = new

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _left(self) -> None:
        self._watching -= 1


class EventStream(StreamingResponse):
    """Ends when the viewer goes, or takes nothing for `SEND_TIMEOUT_S`; calls `left` in any case."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncIterator[bytes], left: Callable[[], None]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._left = left

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send to the end, and tell that the viewer has left."""
        try:
            with contextlib.suppress(TimeoutError):
                await super().__call__(scope, receive, send)
        finally:
            self._left()

    async def stream_response(self, send: Send) -> None:
        """As the framework does, with a bound on each part."""

        async def timed(message: Message) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        await super().stream_response(timed)


def frames(events: Sequence[Mapping[str, Any]], place: str, user: str | None) -> bytes:
    """The events of one read for one viewer, as they go over the wire.

    The place belongs to the last of them; who comes back after an earlier one sees some again. With none to show
    the place is sent alone, so that a viewer of a quiet user comes back to where the stream is now.
    """
    shown = [event for event in events if user is None or event.get("user", user) == user]
    texts = [f"event: {event['type']}\ndata: {json.dumps(event, separators=(',', ':'))}\n" for event in shown]
    return "\n".join([*texts[:-1], f"{texts[-1] if texts else ''}id: {place}\n", ""]).encode()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
