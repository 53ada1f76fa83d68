"""When works are due: once on every local day and every real hour, whatever the clocks do; and what the ledger leaves to do."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beat_schedule import CLOCK
from worker.maintenance.schedule import BORN, MISSED_MAX, Entry, entries, plan, slot_name, slot_time
from worker.ports import Run

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Apia")
DAY = 86_400.0


def an_entry(cron: str, zone: str = "UTC", window_s: float = 3600.0) -> Entry:
    return Entry("backup", cron, window_s, "records", ZoneInfo(zone))


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def local(moments: list[float], zone: str) -> list[str]:
    return [f"{datetime.fromtimestamp(moment, ZoneInfo(zone)):%d %H:%M}" for moment in moments]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["0 2 * * *", "30 2 * * *", "45 1 * * *", "15 2 * * *"])
def test_a_nightly_work_is_due_once_on_every_local_day_of_a_year_with_both_changes(zone: str, cron: str) -> None:
    first = at("2026-01-01T00:00", zone)
    days = [datetime.fromtimestamp(slot, ZoneInfo(zone)).date() for slot in an_entry(cron, zone).slots(first, first + 365 * DAY)]
    assert [(later - day).days for day, later in itertools.pairwise(days)] == [1] * (len(days) - 1)
    assert len(days) in (364, 365, 366)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_an_hourly_work_is_due_every_real_hour_of_a_year_with_both_changes(zone: str) -> None:
    first = at("2026-01-01T00:00", zone)
    slots = list(an_entry("5 * * * *", zone).slots(first, first + 365 * DAY))
    assert {later - slot for slot, later in itertools.pairwise(slots)} == {3600.0}


def test_where_the_change_is_half_an_hour_an_hourly_work_is_due_when_the_clock_shows_its_minute() -> None:
    zone = "Australia/Lord_Howe"
    forward = list(an_entry("5 * * * *", zone).slots(at("2026-10-03T23:59", zone), at("2026-10-04T05:00", zone)))
    assert local(forward, zone) == ["04 00:05", "04 01:05", "04 03:05", "04 04:05"], "02:05 was never"
    back = list(an_entry("5 * * * *", zone).slots(at("2026-04-04T23:59", zone), at("2026-04-05T05:00", zone)))
    assert local(back, zone) == ["05 00:05", "05 01:05", "05 02:05", "05 03:05", "05 04:05"]


def test_a_time_that_the_clock_skips_comes_when_it_goes_on_and_one_that_comes_twice_comes_first() -> None:
    zone = "Europe/Berlin"
    night = an_entry("30 2 * * *", zone)
    [spring] = night.slots(at("2026-03-29T00:00", zone), at("2026-03-29T12:00", zone))
    assert slot_name(spring) == "2026-03-29T01:00:00Z", "03:00 in summer time"
    [autumn] = night.slots(at("2026-10-25T00:00", zone), at("2026-10-25T12:00", zone))
    assert slot_name(autumn) == "2026-10-25T00:30:00Z", "the first 02:30"


@given(st.sampled_from(ZONES), st.sampled_from([entry["cron"] for entry in CLOCK.values()]), st.integers(0, 2 * 365 * 1440), st.data())
def test_however_the_time_is_cut_into_looks_each_slot_is_seen_once(zone: str, cron: str, minutes: int, data: st.DataObject) -> None:
    entry = an_entry(cron, zone)
    first = at("2025-06-01T00:00") + minutes * 60.0
    cuts = sorted(data.draw(st.lists(st.floats(0, 3 * DAY), min_size=1, max_size=6)))
    bounds = [first, *(first + cut for cut in cuts), first + 3 * DAY]
    seen = [slot for low, high in itertools.pairwise(bounds) for slot in entry.slots(low, high)]
    assert seen == list(entry.slots(first, first + 3 * DAY))
    latest = entry.latest(first + 3 * DAY)
    assert latest is not None
    assert latest == (seen[-1] if seen else latest)
    assert slot_time(slot_name(latest)) == latest


def test_next_and_latest_of_a_monthly_work() -> None:
    drill = an_entry("0 5 1 * *", "Europe/Berlin")
    now = at("2026-03-01T04:59", "Europe/Berlin")
    assert slot_name(drill.latest(now) or 0) == "2026-02-01T04:00:00Z"
    assert slot_name(drill.next(now) or 0) == "2026-03-01T04:00:00Z"


def test_a_name_that_is_no_slot_has_no_time() -> None:
    assert slot_time("manual:2026-01-01T00:00:00Z") is None
    assert slot_time(BORN) is None
    assert slot_time("2026-01-01T00:00:00Z#2") == at("2026-01-01T00:00")


# ---- the plan --------------------------------------------------------------------------------------------------

NIGHT = an_entry("0 2 * * *", window_s=4 * 3600.0)
NOW = at("2026-01-10T02:00")


def a_line(slot: str, *, ok: bool | None = True, ended_at: float | None = NOW, **report: object) -> Run:
    return Run("backup", slot, "w", NOW, None if ok is None else ended_at, ok, report)


def planned(lines: list[Run], now: float, *, store_now: float | None = None, all_lines: bool = True) -> tuple[tuple[str, ...], str | None]:
    made = plan(NIGHT, lines, now, now if store_now is None else store_now, all_lines=all_lines)
    return made.missed, made.due


def night(day: int) -> str:
    return f"2026-01-{day:02}T02:00:00Z"


def test_what_nobody_has_taken_is_due_inside_its_window_and_missed_after_it() -> None:
    lines = [a_line(night(9))]
    assert planned(lines, NOW - 1) == ((), None)
    assert planned(lines, NOW) == ((), night(10))
    assert planned(lines, NOW + NIGHT.window_s) == ((), night(10))
    assert planned(lines, NOW + NIGHT.window_s + 1) == ((night(10),), None)
    assert planned(lines, NOW + DAY + 1) == ((night(10),), night(11))


def test_what_was_taken_is_not_due_again_however_it_went() -> None:
    for ok in (True, False):
        assert planned([a_line(night(10), ok=ok)], NOW + 60) == ((), None)
    assert plan(NIGHT, [a_line(night(10), ok=None)], NOW + 60, NOW, all_lines=True).begun == (night(10),)


def test_a_run_whose_process_died_is_begun_again_three_times_in_all_and_inside_its_window() -> None:
    died = a_line(night(10), ok=False, again=True, died=True)
    assert planned([died], NOW + 60) == ((), night(10) + "#2")
    assert planned([died], NOW + NIGHT.window_s + 1) == ((), None)
    second = replace(died, slot=night(10) + "#2")
    assert planned([second, died], NOW + 60) == ((), night(10) + "#3")
    assert planned([replace(died, slot=night(10) + "#3"), second, died], NOW + 60) == ((), None)
    assert planned([a_line(night(10) + "#2"), died], NOW + 60) == ((), None)


def test_a_run_that_found_a_service_away_waits_before_it_is_begun_again() -> None:
    failed = a_line(night(10), ok=False, ended_at=NOW + 10, again=True)
    assert planned([failed], NOW + 60) == ((), None)
    assert planned([failed], NOW + 400) == ((), night(10) + "#2")


def test_misses_are_written_down_in_a_bounded_number_and_the_others_counted() -> None:
    made = plan(NIGHT, [a_line("2025-01-01T02:00:00Z")], NOW, NOW, all_lines=True)
    assert len(made.missed) == MISSED_MAX
    assert made.missed[-1] == night(9)
    assert made.before == (datetime(2026, 1, 9, tzinfo=UTC) - datetime(2025, 1, 1, tzinfo=UTC)) // timedelta(days=1) - MISSED_MAX
    assert made.due == night(10)


def test_what_was_before_its_first_line_is_none_of_its() -> None:
    assert plan(NIGHT, [], NOW, NOW, all_lines=True).newborn
    assert plan(NIGHT, [a_line("manual:2026-01-10T01:00:00Z")], NOW, NOW, all_lines=True).newborn
    assert planned([a_line(BORN, since=NOW - 1)], NOW) == ((), night(10))
    assert planned([a_line(BORN, since=NOW)], NOW + 60) == ((), None)


def test_when_people_ran_it_so_often_that_no_slot_is_seen_the_oldest_line_counts() -> None:
    assert planned([a_line("manual:2026-01-10T01:00:00Z")], NOW + 60, all_lines=False) == ((), None)
    assert planned([a_line("manual:2026-01-10T01:00:00Z")], NOW + DAY, all_lines=False) == ((), night(11))


def test_what_a_clock_that_was_wrong_wrote_down_keeps_nothing_from_being_done() -> None:
    ahead = [a_line(night(day), ok=False, missed=True, at=NOW + 6 * DAY) for day in range(15, 9, -1)]
    lines = [*ahead, a_line(night(9), at=NOW - DAY)]
    assert planned(lines, NOW) == ((), night(10) + "#2")
    assert planned([a_line(night(10) + "#2", at=NOW + 5), *lines], NOW + 60) == ((), None)
    assert planned([a_line(night(10) + "#2", at=NOW + 5), *lines], NOW + DAY) == ((), night(11) + "#2")
    died = a_line(night(10) + "#2", ok=False, at=NOW + 5, again=True, died=True)
    assert planned([died, *lines], NOW + 60) == ((), night(10) + "#3")
    assert plan(NIGHT, [a_line(BORN, since=NOW + 9 * DAY, at=NOW + 9 * DAY)], NOW, NOW, all_lines=True).newborn


def test_the_table_of_works_is_read_in_the_zone_of_the_settings() -> None:
    made = entries(CLOCK, "America/New_York")
    assert slot_name(made["backup"].next(at("2026-07-01T00:00")) or 0) == "2026-07-01T06:00:00Z"
