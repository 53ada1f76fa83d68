"""Where a waiting job stands: how many start before it, and how long that takes at the present pace; and who waits at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from worker.admission.decide import Wait
from worker.admission.turns import Holding, held_by, holdings, weight_of
from worker.jobs.model import Job
from worker.jobs.states import Reason
from worker.ports import Freed, Heads, Services, Tiers

#: Users who are looked at to tell a place; of more the rest is reckoned to be like them.
USERS_MAX = 500
#: Users who are listed.
LISTED_MAX = 50
#: A pace seen for a shorter time is none.
PACE_S_MIN = 10.0


@dataclass(frozen=True, slots=True)
class Standing:
    """The place of a job among those that wait; None is what is not known.

    Attributes:
        ahead: how many of the user's own jobs go before it.
        place: about how many-th it is to start, from 1.
        of: how many wait.
        wait_s: about how long until it starts, by the slots that became free in the last minutes.
    """

    ahead: int | None = None
    place: int | None = None
    of: int | None = None
    wait_s: float | None = None

    @property
    def text(self) -> str:
        """In words for the user; empty when nothing is known."""
        if self.place is None:
            return ""
        first = f"it is about the {ordinal(self.place)} of {self.of} to start"
        own = f", after {self.ahead} of your own" if self.ahead else ""
        if self.wait_s is None:
            return f"{first}{own}; how long that takes is unknown, no slot became free lately"
        return f"{first}{own}, in about {duration(self.wait_s)} at the pace of the last minutes"


def standing(services: Services, job: Job, now: float) -> Standing:
    """Look where it stands; one question to the store and four to Redis, however many wait. Raises Transient."""
    redis = services.coordinator
    ahead = redis.waiting_place(job.id, job.user)
    if ahead is None:
        return Standing()
    held = holdings(services.store.slot_counts(), services.tiers)
    heads = redis.waiting_heads(USERS_MAX, now, depth=0)
    of = max(redis.waiting_size(), 1)
    place = min(place_of(job, ahead, heads, held, services.tiers), of)
    freed = redis.freed_lately(now)
    return Standing(ahead, place, of, wait_of(place, freed))


def place_of(job: Job, ahead: int, heads: Heads, held: Mapping[str, Holding], tiers: Tiers) -> int:
    """About how many-th the job is to start, from 1.

    Reckoned as if work flowed: those who have less than their share get it first, from then on everybody gets the share of
    what becomes free.
    """
    weights = {line.user: weight_of(tiers.of(line.tier, line.user)) for line in heads.lines}
    weights[job.user] = weight_of(tiers.of(job.tier, job.user))
    slots = sum(had.slots for had in held.values())
    unit = slots / sum(weights.values())  # slots that are due for a weight of 1

    def due(user: str, tier: str) -> float:
        most = tiers.of(tier, user).running
        return weights[user] * unit if most is None else min(weights[user] * unit, most)

    def missing(user: str, tier: str) -> float:
        return max(0.0, due(user, tier) - held_by(held, user).slots)

    mine, lack = due(job.user, job.tier), missing(job.user, job.tier)
    first, then = min(ahead + 1, lack), max(0.0, ahead + 1 - lack)
    before, others = 0.0, [line for line in heads.lines if line.user != job.user]
    for line in others:
        its = missing(line.user, line.tier) * (first / lack if lack else 1.0)
        ratio = due(line.user, line.tier) / mine if mine else weights[line.user] / weights[job.user]
        before += min(line.size, its + then * ratio)
    unseen = max(0, heads.users - len(others) - (len(others) < len(heads.lines)))
    return 1 + ahead + round(before * (1 + unseen / len(others)) if others else 0.0)


def wait_of(place: int, freed: Freed) -> float | None:
    """Seconds until so many slots became free; None when none did lately."""
    if not freed.slots or freed.seconds < PACE_S_MIN:
        return None
    return place * freed.seconds / freed.slots


def limited(job: Job, held: Mapping[str, Holding], tiers: Tiers) -> Wait | None:
    """Why it must wait for the user's own jobs; None when that is not so."""
    tier, had = tiers.of(job.tier, job.user), held_by(held, job.user)
    if tier.running is None or had.slots < tier.running:
        return None
    return Wait(Reason.SLOTS, f"{had.slots} of your jobs {'runs' if had.slots == 1 else 'run'}, tier {tier.name} allows {tier.running}")


def users_waiting(services: Services, now: float) -> dict[str, Any]:
    """The first users in turn with what they have and may have, as JSON, and how fast slots become free."""
    held = holdings(services.store.slot_counts(), services.tiers)
    heads, freed = services.coordinator.waiting_heads(LISTED_MAX, now, depth=0), services.coordinator.freed_lately(now)
    users = []
    for line in heads.lines:
        tier = services.tiers.of(line.tier, line.user)
        slots = held_by(held, line.user).slots
        users.append(
            {"user": line.user, "tier": line.tier, "weight": tier.weight, "waiting": line.size, "slots": slots, "running_max": tier.running}
        )
    wait_s = wait_of(1, freed)
    return {"waiting_users": heads.users, "users": users, "starts_per_minute": 60 / wait_s if wait_s else None}


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, …"""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: float) -> str:
    """A rough time in words."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5_400 else f"{round(seconds / 3_600)} h"
