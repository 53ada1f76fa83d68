"""Whose turn it is: the order of one admission, pure.

With k users waiting each gets its weight's share of the slots, however long the jobs are and however many each has. Two
numbers decide. The first is what a user has now: who has the fewest slots for the weight is next. Slots are whole and shares
are not, so the second decides who has the slot that is over: each user has a turn, a clock that runs by slots over weight
(`Coordinator.move_turns`). The user whose clock is furthest behind competes as he is, everybody else as if he had the slot
already. So the clocks stay together, which is: everybody has had the share, however the lengths of the jobs differ.

A slot is never kept free for anybody: who cannot use it is passed over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from worker.jobs.tiers import Tier
from worker.ports import Heads, Tiers, TurnsMoved, WaitingLine

#: Each admission moves the turn by this many slot seconds, so that jobs which take no time take turns as well; it is little,
#: for it counts against short jobs.
STEP_S = 0.001


@dataclass(frozen=True, slots=True)
class Holding:
    """What a user has in slots now.

    Attributes:
        slots: jobs of all his tiers.
        share: the slots over the weights.
        full: he has as many as each of those tiers allows.
    """

    slots: int = 0
    share: float = 0.0
    full: bool = False

    def and_one(self, weight: float, jobs: int = 1) -> Holding:
        """With one job more, or one less."""
        return Holding(self.slots + jobs, self.share + jobs / weight, self.full)


def holdings(counts: Mapping[tuple[str, str], int], tiers: Tiers) -> dict[str, Holding]:
    """By user, what `JobStore.slot_counts` says."""
    found: dict[str, Holding] = {}
    for (user, name), slots in counts.items():
        tier, had = tiers.of(name, user), found.get(user)
        full = tier.running is not None and slots >= tier.running
        if had is None:
            found[user] = Holding(slots, slots / weight_of(tier), full)
        else:
            found[user] = Holding(had.slots + slots, had.share + slots / weight_of(tier), had.full and full)
    return found


def held_by(held: Mapping[str, Holding], user: str) -> Holding:
    """What the user has; users who have nothing may be absent."""
    return held.get(user) or Holding()


def weight_of(tier: Tier) -> float:
    """The weight; never nothing, for that would be to wait for ever."""
    return max(float(tier.weight), 1e-3)


@dataclass(slots=True)
class _Line:
    """A user in this admission; `user` and `turn` say where in the order."""

    user: str
    turn: float
    weight: float
    slots: int
    running: int | None
    ids: Sequence[str]
    more: bool
    given: int = 0
    took: int = 0

    @property
    def over(self) -> bool:
        return self.given >= len(self.ids) or self.full

    @property
    def full(self) -> bool:
        return self.running is not None and self.slots >= self.running


class Turns:
    """Gives out the ids of waiting jobs one by one, the next each time by what was admitted before.

    Args:
        lines: those that wait, furthest behind first.
        held: what users have in slots.
    """

    def __init__(self, lines: Iterable[WaitingLine], held: Mapping[str, Holding], tiers: Tiers) -> None:
        entered = []
        for line in lines:
            tier = tiers.of(line.tier, line.user)
            slots = held_by(held, line.user).slots
            more = line.size > len(line.ids)
            entered.append(_Line(line.user, line.turn, weight_of(tier), slots, tier.running, line.ids, more))
        self._behind = sorted((line for line in entered if not line.over), key=lambda line: (line.turn, line.user), reverse=True)
        self._queue = [_entry(line) for line in self._behind]
        heapify(self._queue)
        self._weights = {line.user: line.weight for line in entered}
        self._last: _Line | None = None
        self._ended = False
        self.reached = 0.0
        self.steps: dict[str, float] = {}
        self.taken: dict[str, Holding] = {}
        self._held = held

    def next(self) -> str | None:
        """The id of the next job; None when nobody is left, or the next would be a job beyond those of its line."""
        if self._ended or (line := self._due()) is None:
            return None
        self._last = line
        line.given += 1
        return line.ids[line.given - 1]

    def admitted(self) -> None:
        """The last one given takes a slot."""
        line = self._last
        assert line is not None
        line.slots, line.took = line.slots + 1, line.took + 1
        self.reached = max(self.reached, line.turn)
        self.steps[line.user] = self.steps.get(line.user, 0.0) + STEP_S / line.weight
        had = self.taken.get(line.user) or held_by(self._held, line.user)
        self.taken[line.user] = had.and_one(line.weight)
        heappush(self._queue, _entry(line))
        if line.more and line.given >= len(line.ids) and not line.full:
            self._ended = True  # his next job is not here; others must not take what it is due

    def given_back(self, user: str) -> None:
        """One that was admitted does not start after all: its user is due as if it had not been."""
        weight = self._weights[user]
        self.steps[user] -= STEP_S / weight
        self.taken[user] = self.taken[user].and_one(weight, -1)

    def _due(self) -> _Line | None:
        while self._behind and self._behind[-1].over:
            self._behind.pop()
        while self._queue and (self._queue[0][-1].over or self._queue[0][0] != _key(self._queue[0][-1])):
            heappop(self._queue)
        if not self._behind:
            return None
        first, best = self._behind[-1], self._queue[0][-1]
        return first if first.slots / first.weight <= _key(best) else best


def _key(line: _Line) -> float:
    return (line.slots + 1) / line.weight


def _entry(line: _Line) -> tuple[float, float, str, _Line]:
    return _key(line), line.turn, line.user, line


def planned(heads: Heads, held: Mapping[str, Holding], tiers: Tiers, limit: int) -> tuple[WaitingLine, ...]:
    """The lines with those ids only that come first, at most `limit`, if each of them is admitted."""
    turns, chosen = Turns(heads.lines, held, tiers), set[str]()
    while len(chosen) < limit and (id := turns.next()) is not None:
        chosen.add(id)
        turns.admitted()
    some = ((line, tuple([id for id in line.ids if id in chosen])) for line in heads.lines)
    return tuple(WaitingLine(line.user, line.tier, line.turn, len(ids), ids) for line, ids in some if ids)


def moved(turns: Turns, heads: Heads, held: Mapping[str, Holding], tiers: Tiers, now: float) -> TurnsMoved:
    """What the admission did to the turns; the weights of users who wait and are not among the heads are as those of the heads."""
    after = {**held, **turns.taken}
    weights = {line.user: weight_of(tiers.of(line.tier, line.user)) for line in heads.lines}
    seen = sum(weights.values())
    others = seen / len(weights) * max(0, heads.users - len(weights)) if weights else 0.0
    holding = sum(had.slots / had.share for user, had in after.items() if user not in weights and had.share)
    before, slots = (sum(had.slots for had in some.values()) for some in (held, after))
    pace = slots / max(seen + others + holding, 1e-3)
    shares = {user: had.share for user, had in after.items()}
    return TurnsMoved(now, turns.steps, shares, pace, turns.reached, before, slots)
