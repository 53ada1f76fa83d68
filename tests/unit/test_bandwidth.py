"""The budget of bandwidth: what an operator may write, and how it is divided."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.machine import services_of
from worker.engines.fake import FakeEngine
from worker.jobs.model import Progress
from worker.notation.bandwidth import DAYS, WEEK_MINUTES, Budget, read_budget
from worker.ports import Item, ItemStatus, Poll
from worker.store.sqlite.store import SqliteStore
from worker.supervision.bandwidth import throttle
from worker.supervision.bandwidth.division import Appetite, Use, divide

MONDAY = datetime(2025, 6, 2)
MIB = 1024 * 1024


def at(budget: Budget | None, day: str, time: str) -> int | None:
    assert budget is not None
    hour, minute = map(int, time.split(":"))
    return budget.at(MONDAY + timedelta(days=DAYS.index(day), hours=hour, minutes=minute))


def test_nothing_written_leaves_the_engines_alone() -> None:
    assert read_budget("") is None
    assert read_budget(" ; ") is None


@pytest.mark.parametrize(
    ("text", "rate"),
    [("2048", 2048), ("10k", 10_000), ("10 KiB", 10_240), ("1.5 MiB/s", 1_572_864), ("2GB", 2_000_000_000), ("unlimited", None)],
)
def test_a_rate_is_written_as_people_write_it(text: str, rate: int | None) -> None:
    assert at(read_budget(text), "Wed", "12:00") == rate


def test_windows_of_the_week_have_rates_of_their_own() -> None:
    budget = read_budget("50 MiB; Mon-Fri 08:00-18:00 10 MiB; Sat,Sun 00:00-24:00 unlimited")
    assert at(budget, "Mon", "07:59") == 50 * MIB
    assert at(budget, "Mon", "08:00") == 10 * MIB
    assert at(budget, "Fri", "17:59") == 10 * MIB
    assert at(budget, "Fri", "18:00") == 50 * MIB
    assert at(budget, "Sat", "00:00") is None
    assert at(budget, "Sun", "23:59") is None


def test_a_window_may_last_into_the_next_day_and_the_next_week() -> None:
    budget = read_budget("1 MiB; Sun 22:00-06:00 2 MiB; Fri-Sat 23:00-01:00 3 MiB")
    assert at(budget, "Sun", "21:59") == MIB
    assert at(budget, "Sun", "22:00") == 2 * MIB
    assert at(budget, "Mon", "05:59") == 2 * MIB
    assert at(budget, "Mon", "06:00") == MIB
    assert at(budget, "Sun", "00:30") == 3 * MIB


def test_without_a_rate_of_its_own_the_rest_of_the_week_has_no_limit() -> None:
    budget = read_budget("Mon 00:00-12:00 1 MiB")
    assert at(budget, "Mon", "12:00") is None
    assert at(budget, "Mon", "11:59") == MIB


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("fast", "'fast'"),
        ("0", "'0'"),
        ("10 MiB; Mon 8-18 1 MiB", "'Mon 8-18 1 MiB'"),
        ("10 MiB; Mon 08:00-18:60 1 MiB", "00:00 to 24:00"),
        ("10 MiB; Mon 24:00-24:00 1 MiB", "00:00 to 24:00"),
        ("10 MiB; Mo 08:00-18:00 1 MiB", "Mon, Tue"),
        ("10 MiB; Mon 08:00-18:00 -1", "'-1'"),
        ("10 MiB; Mon-Fri 08:00-18:00 1 MiB; Wed 17:59-19:00 2 MiB", "'Wed 17:59-19:00 2 MiB' overlap"),
        ("10 MiB; Sun 22:00-06:00 1 MiB; Mon 05:00-06:00 2 MiB", "overlap"),
        ("10 MiB; Sat-Mon 00:00-24:00 1 MiB; Sun 05:00-06:00 2 MiB", "overlap"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_named(text: str, named: str) -> None:
    with pytest.raises(ValueError, match=re.escape(named)):
        read_budget(text)


@given(st.integers(0, WEEK_MINUTES - 1), st.integers(1, 24 * 60 - 1), st.integers(0, WEEK_MINUTES - 1))
def test_a_window_holds_exactly_its_minutes(begin: int, length: int, minute: int) -> None:
    day, start = divmod(begin, 24 * 60)
    end = (start + length) % (24 * 60)
    budget = read_budget(f"{DAYS[day]} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02} 1 MiB")
    assert budget is not None
    inside = (minute - begin) % WEEK_MINUTES < length
    assert budget.at(MONDAY + timedelta(minutes=minute)) == (MIB if inside else None)


BERLIN = ZoneInfo("Europe/Berlin")


def test_the_next_change_is_the_first_minute_that_has_another_rate() -> None:
    budget = read_budget("4 MiB; Mon-Fri 08:00-18:00 1 MiB; Sat 00:00-24:00 4 MiB; Sun 00:00-24:00 unlimited")
    assert budget is not None
    assert budget.change_after(datetime(2025, 6, 2, 7, 59, 59, tzinfo=BERLIN)) == (datetime(2025, 6, 2, 8, tzinfo=BERLIN), MIB)
    assert budget.change_after(datetime(2025, 6, 2, 8, tzinfo=BERLIN)) == (datetime(2025, 6, 2, 18, tzinfo=BERLIN), 4 * MIB)
    assert budget.change_after(datetime(2025, 6, 6, 18, tzinfo=BERLIN)) == (datetime(2025, 6, 8, tzinfo=BERLIN), None)
    for text in ("4 MiB", "4 MiB; Mon-Sun 00:00-24:00 4 MiB", "4 MiB; Mon-Sun 00:00-24:00 1 MiB"):
        unchanging = read_budget(text)
        assert unchanging is not None
        assert unchanging.change_after(datetime(2025, 6, 2, tzinfo=BERLIN)) is None


def test_windows_go_by_the_clock_on_the_wall_when_summer_time_begins_and_ends() -> None:
    budget = read_budget("4 MiB; Sun 02:00-03:00 1 MiB; Sun 12:00-13:00 2 MiB")
    assert budget is not None
    begins = datetime(2025, 3, 30, 1, 59, tzinfo=BERLIN)
    assert budget.change_after(begins) == (datetime(2025, 3, 30, 12, tzinfo=BERLIN), 2 * MIB), "there is no hour from two to three"
    ends = datetime(2025, 10, 26, 1, 59, tzinfo=BERLIN)
    at_two = budget.change_after(ends)
    assert at_two == (datetime(2025, 10, 26, 2, tzinfo=BERLIN), MIB)
    over = budget.change_after(at_two[0])
    assert over is not None
    assert over[1] == 4 * MIB
    assert over[0].timestamp() - at_two[0].timestamp() == 2 * 3600, "the hour comes twice"
    over_midnight = read_budget("4 MiB; Sat 23:00-03:30 1 MiB")
    assert over_midnight is not None
    begun = datetime(2025, 10, 25, 23, tzinfo=BERLIN)
    ended = over_midnight.change_after(begun)
    assert ended is not None
    assert ended[0].timestamp() - begun.timestamp() == 5.5 * 3600


# ---- division ---------------------------------------------------------------------------------------------------------

USES = st.dictionaries(
    st.sampled_from("abcdef"), st.builds(Use, st.integers(1, 10), st.none() | st.floats(0, 10.0**9)), min_size=1, max_size=6
)


@given(st.integers(1024, 10**10), USES)
def test_the_budget_is_kept_and_used_up_while_anybody_wants_it(budget: int, uses: dict[str, Use]) -> None:
    shares = divide(budget, uses)
    assert shares.keys() == uses.keys()
    assert sum(shares.values()) <= budget
    for name, use in uses.items():
        assert use.wants is None or shares[name] <= use.wants
    if any(use.wants is None or shares[name] + 1 < use.wants for name, use in uses.items()):
        assert sum(shares.values()) >= budget - len(uses)


@given(st.integers(10_240, 10**10), USES)
def test_who_wants_more_has_as_much_for_its_weight_as_anybody(budget: int, uses: dict[str, Use]) -> None:
    shares = divide(budget, uses)
    for name, use in uses.items():
        if use.wants is None or shares[name] + 1 < use.wants:
            assert all(shares[name] + use.weight + 1 >= shares[other] * use.weight / uses[other].weight for other in uses)


def test_weights_divide_what_all_want() -> None:
    assert divide(700, {"a": Use(1, None), "b": Use(2, None), "c": Use(4, None)}) == {"a": 100, "b": 200, "c": 400}


def fed(speed: int, seconds: int, appetite: Appetite, since: float = 0.0) -> float:
    """The time after so many seconds at that speed."""
    for n in range(seconds):
        appetite.saw(speed, since + n)
    return since + seconds


def test_what_an_engine_can_use_follows_from_what_it_took_over_a_while() -> None:
    budget, appetite = 1_000_000, Appetite()
    assert appetite.wants(budget, at_work=True, now=0.0) is None, "nothing is known before the first limit"
    appetite.limited(500_000, 0.0)
    now = fed(0, 10, appetite)
    assert appetite.wants(budget, at_work=True, now=now) is None, "its first piece may be on its way"
    now = fed(100_000, 25, appetite, now)
    assert appetite.wants(budget, at_work=True, now=now) == 160_000, "it may grow"
    appetite.limited(160_000, now)
    now = fed(100_000, 25, appetite, now)
    assert appetite.wants(budget, at_work=True, now=now) == 160_000, "a slow source stays where it is"
    now = fed(150_000, 25, appetite, now)
    assert appetite.wants(budget, at_work=True, now=now) is None, "it takes all it gets"


def test_an_engine_at_rest_leaves_the_budget_to_others_and_what_begins_there_has_a_while_of_its_own() -> None:
    budget, appetite = 1_000_000, Appetite()
    appetite.limited(500_000, 0.0)
    now = fed(0, 100, appetite)
    assert appetite.wants(budget, at_work=False, now=now) == 50_000
    appetite.limited(50_000, now)
    assert appetite.wants(budget, at_work=True, now=now + 1) is None


# ---- an engine's owner ------------------------------------------------------------------------------------------------


def test_an_engine_is_given_whole_kib_and_one_that_takes_no_limit_is_told_of_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "DIVIDE_S", 0.0)
    monkeypatch.setattr(throttle, "AGAIN_S", 0.0)
    engine, store = FakeEngine(str(tmp_path)), SqliteStore(tmp_path / "haul.db")
    services = services_of(tmp_path, store, [engine], settings={"bandwidth": "100001"})
    held = throttle.Throttle(services, engine)
    assert held.keep(engine.poll(), {}).limit == engine.throttled == 5_000 // 1024 * 1024, "at rest, a twentieth"

    monkeypatch.setattr(engine, "throttle", lambda _limit: None)
    with capture_logs() as logged:
        assert [held.keep(engine.poll(), {}).limit for _ in range(3)] == [None] * 3
    assert [line["event"] for line in logged] == ["the engine does not take the limit it is given"]
    store.close()


class Bursts(FakeEngine):
    """Of a limit it takes nothing in each tenth second."""

    features = replace(FakeEngine.features, takes=0.95)
    done, second = 0, 0

    def poll(self) -> Poll:
        """A second later."""
        self.second += 1
        self.done += (self.throttled or 0) if self.second % 10 else 0
        item = Item("x", ItemStatus.RUNNING, None, Progress(self.done))
        return replace(super().poll(), items={"x": item}, speed=self.throttled or 0)


def test_an_engine_is_told_what_makes_it_take_its_share_and_both_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, store = Bursts(str(tmp_path)), SqliteStore(tmp_path / "haul.db")
    monkeypatch.setattr(throttle.time, "monotonic", lambda: float(engine.second))
    services = services_of(tmp_path, store, [engine], settings={"bandwidth": "1 MiB"})
    held = throttle.Throttle(services, engine)
    shown = held.keep(engine.poll(), {})
    assert (shown.part, shown.told, shown.limit) == (MIB, MIB * 100 // 95 // 1024 * 1024, engine.throttled), "what it is known for"
    for _ in range(150):
        shown = held.keep(engine.poll(), {})
    assert (shown.part, shown.told) == (MIB, shown.limit)
    done = engine.done
    for _ in range(30):
        held.keep(engine.poll(), {})
    assert 0.95 * MIB <= (engine.done - done) / 30 <= 1.05 * MIB
    assert services.metrics.registry.get_sample_value("haul_engine_share_bytes_per_second", {"engine": "fake"}) == MIB
    store.close()
