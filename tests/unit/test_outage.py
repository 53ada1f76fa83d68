"""A database that does not answer keeps one caller at a time waiting, not all of them."""

from __future__ import annotations

import threading

import pytest

from worker.jobs.errors import Transient
from worker.store.outage import Outage

TRY_S = 10.0
AWAY = Transient("store", "no server answers")


class Now:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def outage(now: Now) -> Outage:
    return Outage(TRY_S, now)


def elsewhere(call: object) -> BaseException | None:
    """What a call in another thread raises."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            call()  # type: ignore[operator]
        except Transient as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return raised[0] if raised else None


def test_calls_are_made_while_none_waited_in_vain(outage: Outage) -> None:
    outage.check()
    outage.note(None)
    assert elsewhere(outage.check) is None


def test_after_one_waited_in_vain_the_next_tries_and_the_others_fail_at_once_in_its_words(outage: Outage) -> None:
    outage.note(AWAY)
    outage.check()
    assert str(elsewhere(outage.check)) == str(AWAY)
    outage.note(AWAY)
    assert elsewhere(outage.check) is None, "the next one tries"


def test_all_calls_are_made_again_once_one_is_answered(outage: Outage) -> None:
    outage.note(AWAY)
    outage.check()
    outage.note(None)
    assert elsewhere(outage.check) is None
    outage.check()


def test_calls_that_began_before_say_nothing_new_when_they_end(outage: Outage) -> None:
    outage.note(AWAY)
    outage.check()
    elsewhere(lambda: outage.note(AWAY))
    assert elsewhere(outage.check) is not None, "one still tries"


def test_one_that_never_ends_is_followed_by_another_after_its_time(outage: Outage, now: Now) -> None:
    outage.note(AWAY)
    outage.check()
    now.seconds = TRY_S
    assert elsewhere(outage.check) is None
