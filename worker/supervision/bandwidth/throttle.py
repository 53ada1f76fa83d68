"""Holds one engine to its share of the bandwidth, and each of its downloads to its own, as its owner."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from worker import logs
from worker.jobs.errors import Transient
from worker.notation.bandwidth import Budget, read_budget
from worker.ports import Engine, ItemStatus, Order, Poll, Services
from worker.supervision.bandwidth.division import Appetite, Use, divide
from worker.supervision.bandwidth.pacing import Pacing, whole
from worker.supervision.bandwidth.regulation import Meter, Regulation
from worker.supervision.diff import Terms, Watched

#: Between two divisions; a change is in force at every engine within twice this time.
DIVIDE_S = 2.0
#: A limit that did not move is given again after this time: somebody may have changed it behind our back.
AGAIN_S = 5.0
#: A limit that would move by less is left, so that engines are not disturbed by each breath of the others.
MOVE_MIN = 0.03

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Share:
    """What an engine's owner tells the others.

    Attributes:
        limit: bytes a second, as the engine itself showed it last; None while it has none or is left alone.
        wants: what it can use; None for all it is given.
        told: what it was told last, so that it takes `part`, which is ours of the budget.
        budgets, unheld: see `Pacing`.
        budget: of all engines, as it is written.
    """

    limit: int | None = None
    wants: float | None = None
    part: int | None = None
    told: int | None = None
    budgets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    unheld: int = 0
    budget: str = ""


class Throttle:
    """The limit of one engine. Every owner divides the same budget by the same snapshots, so together they keep it."""

    def __init__(self, services: Services, engine: Engine) -> None:
        self._limit: int | None = None
        self._wants: float | None = None
        self._services = services
        self._engine = engine
        self._written = services.settings.bandwidth
        self._budget = read_budget(self._written)
        self._schedule: str | None = None
        self._rate: int | None = None
        self._part: int | None = None
        self._told: int | None = None
        self._meter, self._regulation = Meter(), Regulation(engine.features.takes)
        self._pacing = Pacing(services, engine.name, engine.features.takes)
        self._zone = ZoneInfo(services.settings.timezone)
        self._appetite = Appetite()
        self._session: str | None = None
        self._refused = False
        self._divided_at = self._given_at = float("-inf")

    def opened(self, orders: Sequence[Order], watched: Mapping[str, Watched]) -> list[Order]:
        """The orders with the limits they begin with."""
        return self._pacing.opened(orders, self._engine.handle, _terms(watched), time.monotonic())

    def keep(self, poll: Poll, watched: Mapping[str, Watched]) -> Share:
        """Give the engine its share when it is time or the budget is another, and when it was restarted, for then it has forgotten it.

        Returns:
            what is to be shown of it to the others.

        Raises:
            Transient: the engine does not answer.
            LeaseLost: it is not ours any more.
        """
        now = time.monotonic()
        budget = self._in_force()
        if budget is not None:
            self._measure(poll, now)
            rate = budget.at(datetime.fromtimestamp(self._services.clock.time(), self._zone))
            if now - self._divided_at >= DIVIDE_S or poll.session != self._session or rate != self._rate:
                self._divide(rate, poll, now)
        elif self._part is not None:  # there was one; without any the engine's own limit is left alone
            self._give(None, now)
        if self._pacing.due(poll, now):
            self._pacing.keep(self._engine, poll, _terms(watched), now)
        return Share(self._limit, self._wants, self._part, self._told, self._pacing.shared(), len(self._pacing.unheld), self._written)

    def _measure(self, poll: Poll, now: float) -> None:
        self._appetite.saw(poll.speed, now)
        taken = self._meter.taken(poll.items, poll.session)
        if _at_work(poll) and poll.session == self._session:
            self._regulation.saw(taken, now)
        else:
            self._regulation.rests()

    def _in_force(self) -> Budget | None:
        """The budget that was set at run time, else that of the settings."""
        try:
            schedule = self._services.tiers.fresh().schedule
        except Transient:  # the file of tiers is not good yet: what was known stays in force
            return self._budget
        if schedule != self._schedule:
            self._schedule = schedule
            self._written = self._services.settings.bandwidth if schedule is None else schedule
            self._budget = read_budget(self._written)
        return self._budget

    def _divide(self, rate: int | None, poll: Poll, now: float) -> None:
        self._rate = rate
        share = None
        if rate is not None:
            self._wants = self._appetite.wants(rate, at_work=_at_work(poll), now=now)
            share = whole(self._share(rate))
        if poll.session != self._session or self._moved(share) or now - self._given_at >= AGAIN_S:
            self._give(share, now)
            self._session, self._given_at = poll.session, now
        self._divided_at = now

    def _share(self, rate: int) -> int:
        """Ours. An engine that nobody has seen lately may be at work all the same, and keeps its part."""
        weights = {name: engine.weight for name, engine in self._services.engines.items()}
        even = rate / sum(weights.values())
        uses = {name: Use(weight, even * weight) for name, weight in weights.items()}
        try:
            seen = self._services.coordinator.snapshots()
        except Transient:
            seen = {}
        uses |= {name: Use(weights[name], 0.0 if seen[name].error else seen[name].wants) for name in weights if name in seen}
        uses[self._engine.name] = Use(self._engine.weight, self._wants)
        return divide(rate, uses)[self._engine.name]

    def _moved(self, share: int | None) -> bool:
        if share is None or self._limit is None:
            return share != self._limit
        return abs(self._regulation.told(share) - self._limit) > MOVE_MIN * self._limit

    def _give(self, share: int | None, now: float) -> None:
        told = None if share is None else whole(self._regulation.told(share))
        self._limit = self._engine.throttle(told)
        self._part, self._told = share, told
        self._appetite.limited(self._limit, now)
        self._regulation.limited(share, self._limit, now)
        self._services.metrics.engine_limit.labels(self._engine.name).set(self._limit or 0)
        self._services.metrics.engine_share.labels(self._engine.name).set(share or 0)
        refused, self._refused = self._refused, self._limit != told
        if self._refused and not refused:
            log.warning("the engine does not take the limit it is given", engine=self._engine.name, asked=told, shown=self._limit)


def _at_work(poll: Poll) -> bool:
    return any(item.status is ItemStatus.RUNNING for item in poll.items.values())


def _terms(watched: Mapping[str, Watched]) -> dict[str, Terms]:
    return {handle: known.terms for handle, known in watched.items() if known.terms}
