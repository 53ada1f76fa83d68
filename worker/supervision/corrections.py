"""What is put right between records and an engine beside the normal path: counted, and said in the log."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from worker import logs
from worker.metrics import Metrics

log = logs.get(__name__)


class Action(StrEnum):
    """The label `action` of `haul_reconcile_actions_total`."""

    ADOPT = "adopt"  # the engine has what the record says is still to be handed over
    RESUBMIT = "resubmit"  # the engine lost a download: the same attempt is handed over again
    FINISH = "finish"  # recorded as paused, and all its bytes are here
    RESUME = "resume"  # it should run and stood still
    STOP = "stop"  # recorded as paused, and it ran
    MOVE = "move"  # its engine does not answer: it goes on at another one
    FORGET = "forget"  # its job has ended, or goes on under another name
    ORPHAN = "orphan"  # there is no job
    DELETE = "delete"  # a work directory that nobody needs any more


class Corrections:
    """Of one engine."""

    def __init__(self, metrics: Metrics, engine: str) -> None:
        self._counter = metrics.reconciled
        self._engine = engine
        self._asked: dict[Action, frozenset[str]] = {}

    def made(self, action: Action, count: int) -> None:
        """So many were put right, at once and for good."""
        if count:
            self._counter.labels(self._engine, action).inc(count)
            log.info("put right", engine=self._engine, action=str(action), items=count)

    def asked(self, action: Action, handles: Collection[str]) -> None:
        """The engine was asked to put these right, all there are now; one that takes several looks to change is one."""
        self.made(action, len(set(handles) - self._asked.get(action, frozenset())))
        self._asked[action] = frozenset(handles)
