"""Where a waiting job stands, in words for its user."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.admission.standing import Standing, duration, limited, ordinal, place_of, wait_of
from worker.admission.turns import Holding
from worker.jobs.model import Job, new_job
from worker.jobs.requests import parse
from worker.jobs.states import Reason
from worker.jobs.tiers import FixedTiers, Tier
from worker.ports import Freed, Heads, WaitingLine

TIERS = FixedTiers({"free": Tier("free", running=3), "vip": Tier("vip", weight=4), "open": Tier("open")})


def of(user: str, tier: str = "open") -> Job:
    return replace(new_job(parse({"uri": "http://host/x", "user": user, "tier": tier}), 1.0))


def heads(*lines: tuple[str, str, int], users: int | None = None) -> Heads:
    return Heads(users or len(lines), tuple(WaitingLine(user, tier, 1.0, size, ()) for user, tier, size in lines))


def place(user: str, ahead: int, seen: Heads, tier: str = "open", **held: int) -> int:
    return place_of(of(user, tier), ahead, seen, {user: Holding(slots, float(slots), False) for user, slots in held.items()}, TIERS)


def test_a_place_counts_what_others_start_by_their_shares() -> None:
    seen = heads(("ann", "open", 500), ("bob", "open", 5), ("cid", "vip", 100))
    assert place("bob", 0, seen) == 1 + 1 + 4
    assert place("bob", 4, seen) == 1 + 4 + 5 + 20
    assert place("ann", 400, seen) == 1 + 400 + 5 + 100, "none starts more than it asks for"
    assert place("cid", 0, seen, "vip") == 1, "a quarter of a job of the others is none"


def test_who_has_less_than_the_share_comes_before_those_who_have_it() -> None:
    seen = heads(("ann", "open", 500), ("bob", "open", 9))
    assert place("bob", 0, seen, ann=8) == 1
    assert place("bob", 3, seen, ann=8) == 4
    assert place("bob", 5, seen, ann=8) == 1 + 5 + 2, "from its fifth on they take turns"
    assert place("new", 0, heads(("ann", "open", 500)), ann=8) == 1


def test_a_user_with_a_limit_of_running_jobs_starts_no_more_than_that_gives() -> None:
    assert place("bob", 9, heads(("ann", "free", 500), ("bob", "open", 10)), ann=3, bob=17) == 1 + 9 + 3


def test_users_who_are_not_seen_are_reckoned_like_the_others() -> None:
    assert place("bob", 0, heads(("ann", "open", 500), ("bob", "open", 5), users=12)) == 1 + 11


def test_a_wait_is_told_by_the_slots_that_became_free_and_not_invented() -> None:
    assert wait_of(6, Freed(20, 120.0)) == 36.0
    assert wait_of(6, Freed(0, 600.0)) is wait_of(6, Freed(5, 2.0)) is None
    assert (
        Standing(2, 7, 40, 36.0).text
        == "it is about the 7th of 40 to start, after 2 of your own, in about 36 s at the pace of the last minutes"
    )
    assert Standing(0, 1, 1).text == "it is about the 1st of 1 to start; how long that takes is unknown, no slot became free lately"
    assert Standing().text == ""


def test_the_limit_of_running_jobs_is_told_with_both_numbers() -> None:
    told = limited(of("ann", "free"), {"ann": Holding(3, 3.0, True)}, TIERS)
    assert told is not None
    assert (told.reason, told.text) == (Reason.SLOTS, "3 of your jobs run, tier free allows 3")
    assert limited(of("ann", "free"), {"ann": Holding(2, 2.0)}, TIERS) is limited(of("ann"), {"ann": Holding(9, 9.0)}, TIERS) is None


@pytest.mark.parametrize(("number", "words"), [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (112, "112th"), (21, "21st")])
def test_places_are_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words


@pytest.mark.parametrize(("seconds", "words"), [(0.2, "1 s"), (80, "80 s"), (240, "4 min"), (7_300, "2 h")])
def test_times_are_rough(seconds: float, words: str) -> None:
    assert duration(seconds) == words
