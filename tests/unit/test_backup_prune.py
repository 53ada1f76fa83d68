"""Which backups may go: never the last good one, and what is kept is spread over days, weeks and months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.maintenance.backup.prune import Old, doomed
from worker.notation.keep import Keep, read_keep

DEFAULT = Keep()
BEGIN = datetime(2024, 1, 1, 2, tzinfo=UTC)


def nights(count: int, *, bad: frozenset[int] = frozenset()) -> list[Old]:
    """A backup each night at two; those whose number is in `bad` are no good."""
    return [Old(f"{night:04}", (BEGIN + timedelta(days=night)).timestamp(), night not in bad) for night in range(count)]


def left(backups: list[Old], keep: Keep = DEFAULT, zone: str = "UTC") -> list[str]:
    gone = doomed(backups, keep, zone)
    return [backup.name for backup in backups if backup.name not in gone]


def test_after_a_year_there_are_seven_days_four_weeks_and_twelve_months() -> None:
    kept: list[Old] = []
    for backup in nights(400):
        kept.append(backup)
        names = left(kept)
        kept = [each for each in kept if each.name in names]
    days = [datetime.fromtimestamp(backup.at, UTC).date() for backup in kept]
    assert days[-7:] == [(BEGIN + timedelta(days=night)).date() for night in range(393, 400)]
    assert len({day.isocalendar()[:2] for day in days if (days[-1] - day).days < 28}) == 4
    assert len({(day.year, day.month) for day in days}) == 12
    assert len(kept) <= 7 + 4 + 12


def test_a_system_that_made_no_backup_for_long_loses_none() -> None:
    assert left(nights(7)) == [f"{night:04}" for night in range(7)]


def test_of_several_of_one_day_the_newest_stays() -> None:
    backups = [Old(f"{hour:02}", (BEGIN + timedelta(hours=hour)).timestamp(), True) for hour in range(5)]
    assert left(backups) == ["04"]


def test_the_days_are_those_of_the_time_zone() -> None:
    backups = [Old(name, datetime(2024, 6, 1, hour, tzinfo=UTC).timestamp(), True) for name, hour in (("a", 3), ("b", 5))]
    assert left(backups, Keep(2, 0, 0)) == ["b"]
    assert left(backups, Keep(2, 0, 0), "America/New_York") == ["a", "b"]


def test_one_that_is_damaged_stands_for_nothing_and_goes_once_there_is_a_newer_good_one() -> None:
    assert left(nights(3, bad=frozenset({2})), Keep(1, 0, 0)) == ["0001", "0002"]
    assert left(nights(3, bad=frozenset({1})), Keep(1, 0, 0)) == ["0002"]
    assert left(nights(3, bad=frozenset({0, 1, 2})), Keep(1, 0, 0)) == ["0000", "0001", "0002"]


@given(
    st.lists(st.tuples(st.integers(0, 400 * 24), st.booleans()), max_size=60),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 13)).filter(any),
)
def test_the_newest_good_one_stays_and_what_goes_is_older_whatever_there_is(
    made: list[tuple[int, bool]], keep: tuple[int, int, int]
) -> None:
    backups = [Old(f"{place}", (BEGIN + timedelta(hours=hour)).timestamp(), good) for place, (hour, good) in enumerate(made)]
    gone = set(doomed(backups, Keep(*keep), "UTC"))
    good = [backup for backup in backups if backup.good]
    assert gone <= {backup.name for backup in backups}
    if not good:
        assert gone == set()
        return
    newest = max(backup.at for backup in good)
    assert {backup.name for backup in good if backup.at == newest} - gone
    assert all(backup.at <= newest for backup in backups if backup.name in gone)
    days = {datetime.fromtimestamp(backup.at, UTC).date() for backup in good}
    stay = {datetime.fromtimestamp(backup.at, UTC).date() for backup in good if backup.name not in gone}
    assert set(sorted(days)[-keep[0] :] if keep[0] else []) <= stay
    rest = [backup for backup in backups if backup.name not in gone]
    assert doomed(rest, Keep(*keep), "UTC") == [], "what is left stays at the next look"


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("7 daily, 4 weekly, 12 monthly", Keep()),
        ("3, 0, 1", Keep(3, 0, 1)),
        ("30 daily", Keep(30, 0, 0)),
        ("2 monthly,1 daily", Keep(1, 0, 2)),
    ],
)
def test_what_is_kept_is_read_as_it_is_written(text: str, keep: Keep) -> None:
    assert read_keep(text) == keep
    assert read_keep(str(keep)) == keep


@pytest.mark.parametrize("text", ["", "7", "0, 0, 0", "0 daily", "7 daily, 7 daily", "-1 daily", "7 yearly", "7 daily 4 weekly"])
def test_what_says_nothing_clear_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="daily"):
        read_keep(text)
