"""Holds each download of one engine to its part: of its job, of its user and of its tier; by the engine's owner."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from worker import logs
from worker.jobs.errors import Transient
from worker.jobs.tiers import Limits
from worker.ports import Engine, Item, ItemStatus, Order, Poll, Services
from worker.supervision.bandwidth import caps
from worker.supervision.bandwidth.caps import Demand
from worker.supervision.bandwidth.division import Appetite
from worker.supervision.bandwidth.regulation import Regulations
from worker.supervision.diff import Terms

#: Between two divisions; a change of a limit is dealt with at once.
DIVIDE_S = 2.0
#: Limits that did not move are given again after this time, some at a time: an engine may have forgotten them, or somebody changed them.
AGAIN_S = 10.0
AGAIN_MAX = 100
#: Limits that move in one call; the others move at the next tick. aria2 takes a second for so many on a loaded machine.
MOVES_MAX = 1_000
#: A limit that would move by less is left as it is.
MOVE_MIN = 0.03
#: Engines are given whole KiB.
STEP_BYTES = 1024

HELD = frozenset({ItemStatus.RUNNING, ItemStatus.WAITING, ItemStatus.PAUSED})

log = logs.get(__name__)


class Pacing:
    """The limits of an engine's downloads. Owners tell each other by snapshots what their downloads can use of each budget.

    Args:
        takes: see `Features`.

    Attributes:
        demands: what the downloads here can use of each budget, to be told the others.
        unheld: downloads that did not show the limit they were given.
    """

    def __init__(self, services: Services, engine: str, takes: float = 1.0) -> None:
        self.demands: dict[str, Demand] = {}
        self.unheld: frozenset[str] = frozenset()
        self._services = services
        self._engine = engine
        self._limits = Limits()
        self._asked: dict[str, int | None] = {}
        self._given_at: dict[str, float] = {}
        self._appetites: dict[str, Appetite] = {}
        self._takes, self._regulations = takes, Regulations(takes)
        self._others: dict[str, dict[str, Demand]] = {}
        self._present: Mapping[str, Item] | None = None
        self._session: str | None = None
        self._divided_at = float("-inf")

    def opened(self, orders: Sequence[Order], handle: Callable[[str, int], str], terms: Mapping[str, Terms], now: float) -> list[Order]:
        """The orders with the limits they begin with, until the next division."""
        names = [handle(order.transfer, order.attempt) for order in orders]
        now_in_force = self._fresh()
        parts = [self._opening(now_in_force, terms[name], len(orders)) if name in terms else None for name in names]
        limits = [None if part is None else whole(self._regulations.told(name, part)) for name, part in zip(names, parts, strict=True)]
        for name, limit in zip(names, limits, strict=True):
            if self._present is None or name in self._present:  # what is there already goes on with the limit it has
                self._asked.pop(name, None)
            else:
                self._asked[name], self._given_at[name] = limit, now
        return [replace(order, limit=limit) for order, limit in zip(orders, limits, strict=True)]

    def due(self, poll: Poll, now: float) -> bool:
        """Whether it is time to divide, or a limit was changed."""
        limits, self._present = self._fresh(), poll.items
        changed, self._limits = limits != self._limits, limits
        return changed or now - self._divided_at >= DIVIDE_S or poll.session != self._session

    def keep(self, engine: Engine, poll: Poll, terms: Mapping[str, Terms], now: float) -> None:
        """Divide, and give what moved to the engine, which is asked again.

        Args:
            terms: of the downloads that are ours.

        Raises:
            Transient: the engine does not answer.
            LeaseLost: it is not ours any more.
        """
        self._divided_at = now
        items = {handle: poll.items[handle] for handle in terms.keys() & poll.items.keys() if poll.items[handle].status in HELD}
        if self._session not in (None, poll.session):
            self._asked, self._given_at, self._regulations = {}, {}, Regulations(self._takes)
        self._session = poll.session
        for kept in (self._asked, self._given_at, self._appetites):
            for gone in kept.keys() - items.keys():
                del kept[gone]
        self._regulations.saw(items, now)
        parts = self._divided(items, terms, now)
        told = {handle: None if bound is None else whole(self._regulations.told(handle, bound)) for handle, bound in parts.items()}
        shown = self._give(engine, told, now)
        self._regulations.limited({handle: (parts[handle], limit) for handle, limit in shown.items()}, now)

    # ---- division ----

    def _divided(self, items: Mapping[str, Item], terms: Mapping[str, Terms], now: float) -> dict[str, int | None]:
        """What each download is to be held to."""
        bounds: dict[str, float | None] = {handle: terms[handle].max_speed for handle in items}
        running = {handle: item for handle, item in items.items() if item.status is ItemStatus.RUNNING}
        shared: dict[str, tuple[int, list[str]]] = {}
        for handle in running:
            for name, rate in self._limits.speeds(terms[handle].tier, terms[handle].user):
                shared.setdefault(name, (rate, []))[1].append(handle)
        wants = self._wants(shared, running, terms, now)
        self._listen()
        self.demands = {}
        # A user's own budget comes before his tier's: what it leaves him is all he can use of that.
        for name, (rate, handles) in sorted(shared.items(), key=lambda entry: entry[0].startswith("tier:")):
            mine = {handle: wants[handle] for handle in handles}
            self.demands[name] = caps.demand(mine.values(), sum(items[handle].progress.speed for handle in handles))
            for handle, share in caps.each(rate, mine, self._elsewhere(name)).items():
                wants[handle] = bounds[handle] = caps.least(bounds[handle], share)
        for handle in items.keys() - running.keys():
            bounds[handle] = self._opening(self._limits, terms[handle], 1)
        return {handle: whole(bound) for handle, bound in bounds.items()}

    def _wants(
        self, shared: Mapping[str, tuple[int, list[str]]], running: Mapping[str, Item], terms: Mapping[str, Terms], now: float
    ) -> dict[str, float | None]:
        """What each download that shares a budget can use."""
        fair: dict[str, float] = {}
        for rate, handles in shared.values():
            fair |= {handle: min(rate / len(handles), fair.get(handle, rate)) for handle in handles}
        wants: dict[str, float | None] = {}
        for handle, even in fair.items():
            appetite = self._appetites.setdefault(handle, Appetite())
            appetite.saw(running[handle].progress.speed, now)
            can = caps.stepped(appetite.wants(int(even), at_work=True, now=now))
            wants[handle] = caps.least(can, terms[handle].max_speed)
        return wants

    def _opening(self, limits: Limits, terms: Terms, newcomers: int) -> int | None:
        """What a download begins with: what each would have if all newcomers shared its budgets with those at work."""
        bound: float | None = terms.max_speed
        for name, rate in limits.speeds(terms.tier, terms.user):
            there = [self.demands.get(name, Demand()), *(demands.get(name, Demand()) for demands in self._others.values())]
            bound = caps.least(bound, rate / (newcomers + sum(demand.hungry + demand.modest for demand in there)))
        return whole(bound)

    def _listen(self) -> None:
        """What the other engines' downloads can use; of one that is not seen now, what was seen last: it may be at work all the same."""
        try:
            seen = self._services.coordinator.snapshots()
        except Transient:
            return
        for name in self._services.engines.keys() - {self._engine}:
            if name in seen:
                told = {} if seen[name].error else seen[name].budgets
                self._others[name] = {budget: Demand.read(values) for budget, values in told.items()}

    def _elsewhere(self, budget: str) -> list[Demand]:
        """What the others can use of a budget; of one that was never seen, as much as the downloads here."""
        here = self.demands[budget]
        others = self._services.engines.keys() - {self._engine}
        return [self._others[name].get(budget, Demand()) if name in self._others else here for name in others]

    def _fresh(self) -> Limits:
        try:
            return self._services.tiers.fresh()
        except Transient:  # there was no good file of tiers yet; nothing is let in either
            return self._limits

    # ---- the engine ----

    def _give(self, engine: Engine, wanted: Mapping[str, int | None], now: float) -> Mapping[str, int | None]:
        """Tell the engine what moved, and some of what did not; what it shows of those."""
        changes = {handle: limit for handle, limit in wanted.items() if self._moved(handle, limit)}
        if len(changes) > MOVES_MAX:
            changes = dict(itertools.islice(changes.items(), MOVES_MAX))
            self._divided_at = float("-inf")
        due = [handle for handle in wanted.keys() - changes.keys() if self._due(handle, now)]
        due = sorted(due, key=lambda handle: self._given_at.get(handle, float("-inf")))[:AGAIN_MAX]
        changes |= {handle: wanted[handle] for handle in due}
        if not changes:
            return {}
        shown = engine.limit(changes)
        for handle, limit in changes.items():
            self._asked[handle], self._given_at[handle] = limit, now
            if handle in self._appetites:
                self._appetites[handle].limited(limit, now)
        odd = frozenset(handle for handle, limit in shown.items() if limit != changes[handle])
        before, self.unheld = self.unheld, (self.unheld & wanted.keys()) - shown.keys() | odd
        self._services.metrics.engine_unheld.labels(self._engine).set(len(self.unheld))
        if self.unheld and not before:
            example = min(odd)
            log.warning(
                "downloads do not show the limit they were given",
                engine=self._engine,
                downloads=len(odd),
                asked=changes[example],
                shown=shown[example],
            )
        return shown

    def _moved(self, handle: str, limit: int | None) -> bool:
        if handle not in self._asked:
            return limit is not None
        asked = self._asked[handle]
        if limit is None or asked is None:
            return limit is not asked
        return abs(limit - asked) > MOVE_MIN * asked

    def _due(self, handle: str, now: float) -> bool:
        """Whether a limit is given again; of those without one, one that was never looked at: it may have had one before."""
        if self._asked.get(handle) is None:
            return handle not in self._asked
        return now - self._given_at[handle] >= AGAIN_S

    def shared(self) -> dict[str, dict[str, float]]:
        """The demands, as snapshots carry them."""
        return {name: asdict(there) for name, there in self.demands.items()}


def whole(bound: float | None) -> int | None:
    """In whole KiB, and at least one."""
    return None if bound is None else max(STEP_BYTES, int(bound) // STEP_BYTES * STEP_BYTES)
