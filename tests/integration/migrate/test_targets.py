"""Targets that are something else, or do not hold what they were given."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, described
from tests.integration.grown import everything
from tests.integration.migrate.copying import SMALL, Haul, everything_in, nothing, recorded
from worker.failpoints import Failpoints
from worker.jobs.model import Job
from worker.ports import Change, Inserted, Run
from worker.store import open_store
from worker.store.migrate import NotCopied, compare, copy
from worker.store.sqlite.store import SqliteStore
from worker.store.wrapped import WrappedStore


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_another_record_under_an_id_is_named_and_nothing_is_written(
    haul: Haul, source: str, any_target: str, options: Sequence[str]
) -> None:
    newest, *_, oldest = everything_in(source)[0]
    before = recorded(any_target, [oldest, replace(newest, sent=newest.sent + 1)])
    ended = haul(source, any_target, *options)
    assert ended.code == 1
    assert f"these in another form, and nothing is overwritten: job {newest.id}\n" in ended.err
    assert everything_in(any_target) == before


def test_another_run_under_a_slot_is_named_and_nothing_is_written(haul: Haul, source: str, target: str) -> None:
    before = recorded(target, runs=[Run("backup", "7", "somebody", NOW)])
    ended = haul(source, target)
    assert (ended.code, everything_in(target)) == (1, before)
    assert "run backup 7" in ended.err


@pytest.mark.parametrize(("jobs", "runs"), [([a_job("of others")], []), ([], [Run("prune", "1", "a", NOW)])])
def test_a_store_with_records_of_its_own_is_left_alone(haul: Haul, source: str, any_target: str, jobs: list[Job], runs: list[Run]) -> None:
    before = recorded(any_target, jobs, runs)
    ended = haul(source, any_target)
    assert ended.code == 1
    assert "has 1 jobs, runs or limits that the source does not have: choose an empty store" in ended.err
    assert everything_in(any_target) == before


def test_what_does_not_come_back_as_it_was_given_ends_the_copy(source: str, tmp_path: Path) -> None:
    class Forgetful(WrappedStore):
        def insert(self, jobs: Sequence[Job], marks: Sequence[str] | None = None) -> list[Inserted]:
            return super().insert([replace(job, sent=0) for job in jobs], marks)

    words = r"these did not arrive as they are in the source: job \w+, .* and \d+ more"
    with (
        closing(open_store(source)) as one,
        closing(Forgetful(SqliteStore(tmp_path / "forgetful.db"))) as other,
        pytest.raises(NotCopied, match=words),
    ):
        copy(one, other, compare(one, other, nothing), nothing, Failpoints())


def test_a_change_of_the_source_meanwhile_is_found_at_the_end(source: str, target: str) -> None:
    with closing(open_store(source)) as one, closing(open_store(target)) as other:
        oldest = everything(one)[0][-1]

        def turn(doing: str, done: int, total: int) -> None:
            if (doing, done) == ("copying", SMALL):
                one.apply([Change(oldest, oldest.noted(NOW, "a door wrote this"))])
                one.insert([a_job("came late")])

        copy(one, other, compare(one, other, nothing), turn, Failpoints())
        found = compare(one, other, nothing)
        assert found.differing == [f"job {oldest.id}"]
        assert found.missing == [a_job("came late").id]
        with pytest.raises(NotCopied, match=f"another form, and nothing is overwritten: job {oldest.id}"):
            found.check_equal()


def test_a_torrent_that_is_lost_or_damaged_in_the_target_is_missed(source: str, target: str, haul: Haul) -> None:
    assert haul(source, target).code == 0
    with closing(open_store(source)) as one, closing(open_store(target)) as other:
        assert isinstance(other, SqliteStore)
        names = sorted(everything(one)[2])
        with other._file.writing() as connection:
            connection.execute("DELETE FROM torrents WHERE id = ?", (names[0],))
            connection.execute("UPDATE torrents SET document = x'00' WHERE id = ?", (names[1],))
        found = compare(one, other, nothing)
        assert found.missing_torrents == names[:2]
        with pytest.raises(NotCopied, match=f"does not have torrent {names[0]}, torrent {names[1]}"):
            found.check_equal()


def test_a_torrent_that_neither_has_is_told_and_stops_nothing(haul: Haul, source: str, target: str) -> None:
    with closing(open_store(source)) as store:
        store.insert([described(a_job("of a lost torrent"), "0" * 64)])
    ended = haul(source, target)
    assert ended.code == 0
    assert "1 .torrent files are in neither of the two" in ended.err
