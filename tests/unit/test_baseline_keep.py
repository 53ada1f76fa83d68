"""Captures on the disk: whole or not there, bounded, and read again as they were."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.captures import System, capture
from worker.jobs.errors import Rejected, Transient
from worker.maintenance.baseline import document, keep
from worker.maintenance.baseline.figures import Figure

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    st.dictionaries(
        st.text(max_size=20),
        st.one_of(
            st.builds(Figure, numbers, numbers, st.integers(0, 1000), st.none() | numbers), st.builds(Figure.none, st.text(max_size=50))
        ),
    )
)
def test_a_capture_is_read_as_it_was_written(figures: dict[str, Figure]) -> None:
    written = capture(3, figures)
    again = document.read(written.text, "it")
    assert again.document() == written.document()
    assert document.read(again.text, "it") == again


def test_a_capture_is_named_by_its_time_in_utc_and_the_latest_leads_to_it(tmp_path: Path) -> None:
    where = tmp_path / ".metrics" / "baselines"
    first, second = System(1).captures(2)[::-1]
    keep.keep_file(first, where)
    path = keep.keep_file(second, where)
    assert path.name == f"baseline_{datetime.fromtimestamp(second.at, UTC):%Y%m%dT%H%M%S}.000Z.json"
    assert keep.load(where / keep.LATEST) == keep.load(path)
    assert [each.id for each in keep.kept(where, None, 9)] == [second.id, first.id]
    assert json.loads(path.read_text())["schema"] == 1
    assert sorted(each.name for each in where.iterdir()) == sorted([f"baseline_{first.id}.json", path.name, keep.LATEST])


def test_where_there_are_no_links_the_latest_is_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for each in System(1).captures(2)[::-1]:
        keep.keep_file(each, tmp_path)
        assert not (tmp_path / keep.LATEST).is_symlink()
        assert keep.load(tmp_path / keep.LATEST).id == each.id


def test_a_write_that_fails_leaves_the_last_good_one_and_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = System(1).captures(2)[::-1]
    keep.keep_file(first, tmp_path)
    before = sorted(os.listdir(tmp_path))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Transient, match="No space left on device"):
        keep.keep_file(second, tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    assert keep.load(tmp_path / keep.LATEST).id == first.id


def test_what_a_dead_process_left_half_written_is_removed_after_an_hour(tmp_path: Path) -> None:
    old, fresh = tmp_path / ".new-1-baseline_x.json", tmp_path / ".new-2-baseline_y.json"
    for path in (old, fresh):
        path.write_text("{")
    os.utime(old, (1, 1))
    keep.keep_file(System(1).capture(), tmp_path)
    assert not old.exists()
    assert fresh.exists()
    assert len(keep.kept(tmp_path, None, 9)) == 1


def test_the_newest_stay_and_of_older_ones_the_first_of_each_day() -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    every_hour = [document.id_of((start + timedelta(hours=hour)).timestamp()) for hour in range(24 * 500)][::-1]
    gone = set(keep.surplus(every_hour))
    kept = [id for id in every_hour if id not in gone]
    assert kept[: keep.HOURLY] == every_hour[: keep.HOURLY]
    daily = kept[keep.HOURLY :]
    assert len(daily) == keep.DAILY
    assert all(id.endswith("T000000.000Z") for id in daily)
    assert len({id[:8] for id in daily}) == keep.DAILY


@given(st.sets(st.integers(0, 20_000_000), max_size=1500))
def test_pruning_twice_is_pruning_once_and_never_takes_a_new_one(minutes: set[int]) -> None:
    ids = sorted((document.id_of(60.0 * minute) for minute in minutes), reverse=True)
    gone = set(keep.surplus(ids))
    kept = [id for id in ids if id not in gone]
    assert kept[: keep.HOURLY] == ids[: keep.HOURLY]
    assert len(kept) <= keep.HOURLY + keep.DAILY
    assert keep.surplus(kept) == []


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 1}', '{"schema": 1, "id": "../x"}', '{"schema": 99, "id": "x"}', "[" * 100_000]
)
def test_what_is_no_capture_is_refused_with_its_name_and_left_out_of_lists(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"baseline_{document.id_of(0.0)}.json"
    path.write_text(text)
    with pytest.raises(Rejected, match=path.name):
        keep.load(path)
    assert keep.kept(tmp_path, None, 9) == []


def test_a_file_without_an_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "big.json"
    path.write_bytes(b" " * (document.BYTES_MAX + 1))
    with pytest.raises(Rejected, match="larger than any capture"):
        keep.load(path)
