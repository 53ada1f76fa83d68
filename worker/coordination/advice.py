"""What the advisors of all processes found, shared for an hour: it outlives a worker that ended, and is gone with what it was about."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from worker.coordination import wire
from worker.coordination.connection import Connection
from worker.coordination.keys import Keys
from worker.coordination.memory import Memory

ADVICE_S = 3_600.0
#: The newest are kept; one process has 30 KB at most.
PROCESSES_MAX = 50


class RedisAdvice:
    """That part of `ports.Coordinator`."""

    def __init__(self, server: Connection, names: Keys) -> None:
        self._server, self._names = server, names

    def put_advice(self, process: str, advice: Mapping[str, Any]) -> None:
        """See `ports.Coordinator`."""
        names, lifetime = self._names, int(ADVICE_S)
        with self._server.answers(), self._server.commands.pipeline() as pipe:
            pipe.set(names.advice(process), wire.event_text(advice), ex=lifetime)
            pipe.zadd(names.advisors, {process: time.time()})
            pipe.zremrangebyrank(names.advisors, 0, -PROCESSES_MAX - 1)
            pipe.expire(names.advisors, lifetime)
            pipe.execute()

    def advice(self) -> dict[str, Mapping[str, Any]]:
        """See `ports.Coordinator`."""
        with self._server.answers():
            found = self._server.commands.zrange(self._names.advisors, 0, -1)
            texts = self._server.commands.mget([self._names.advice(process) for process in found]) if found else []
        read = {process: wire.mapping_of(text) for process, text in zip(found, texts, strict=True)}
        return {process: advice for process, advice in read.items() if advice is not None}


class FakeAdvice:
    """The same in memory."""

    def __init__(self, opened: Callable[[], AbstractContextManager[Memory]], clock: Callable[[], float]) -> None:
        self._open, self._clock = opened, clock

    def put_advice(self, process: str, advice: Mapping[str, Any]) -> None:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            memory.advice.pop(process, None)
            memory.advice[process] = (wire.event_text(advice), self._clock() + ADVICE_S)
            for oldest in list(memory.advice)[:-PROCESSES_MAX]:
                del memory.advice[oldest]

    def advice(self) -> dict[str, Mapping[str, Any]]:
        """See `ports.Coordinator`."""
        with self._open() as memory:
            found = {process: wire.mapping_of(text) for process, (text, until) in memory.advice.items() if until > self._clock()}
            return {process: advice for process, advice in found.items() if advice is not None}
