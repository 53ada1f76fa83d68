"""What goes when it is old, and what never does: real files and a real store, with engines in memory and time given by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.machine import MAGNET, Machine
from worker.admission.admit import admit
from worker.admission.control import control
from worker.delivery.finish import finish
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs.events import EventType
from worker.jobs.model import Job
from worker.jobs.states import Action, State
from worker.maintenance import retention
from worker.maintenance.report import Report
from worker.maintenance.schedule import MISSED_MAX
from worker.maintenance.timetable import LINES
from worker.ports import Change, Run

DAY = 86_400.0


class Keeper(Machine):
    """A machine whose wall clock is moved by hand, with jobs in every end."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self.days = 0.0
        super().__init__(directory, **settings)
        self.services = replace(self.services, clock=self)
        self.take_over()

    def time(self) -> float:
        return 1_800_000_000.0 + self.days * DAY

    def done(self, key: str, **request: Any) -> str:
        """A job whose file is in place, and of which everybody was told."""
        id = self.ask(MAGNET.replace("a1", f"{int(key):02x}"), key=key, **request)
        self.engine.complete(self.handle(id))
        self.tick()
        finish(self.services, 100)
        self.tick(2)
        self.seen_anew()
        self.tell()
        assert self.job(id).state is State.DONE
        return id

    def failed(self, key: str) -> str:
        """A job that failed, and whose work directory is there."""
        id = self.ask(MAGNET.replace("a1", f"{int(key):02x}"), key=key)
        job = self.job(id)
        [applied] = self.services.store.apply([Change(job, job.moved(State.FAILED, self.time(), "no luck", event=EventType.FAILED))])
        assert applied.won
        self.tell()
        work = self.work(self.job(id))
        work.mkdir(parents=True, exist_ok=True)
        (work / "half").write_bytes(b"x" * 100)
        return id

    def tell(self) -> None:
        """Somebody reads all events."""
        self.services.store.mark_sent({job.id: job.version for job in self.services.store.unsent(100)})

    def work(self, job: Job) -> Path:
        assert job.transfer is not None
        return Path(job.transfer.directory)

    def place(self, id: str) -> Path:
        result = self.job(id).result
        assert result is not None
        return Path(result.path)

    def known(self, *ids: str) -> list[str]:
        there = self.services.store.get(ids)
        return [id for id in ids if id in there]

    def keep(self, **settings: Any) -> Report:
        """A night, with some of the settings changed."""
        return retention.run(self.with_settings(**settings))

    def with_settings(self, **settings: Any) -> Any:
        return replace(self.services, settings=self.services.settings.model_copy(update=settings))


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.services.close()


def test_a_finished_job_goes_after_ninety_days_and_its_file_stays(keeper: Keeper) -> None:
    id = keeper.done("1")
    keeper.days = 89.9
    assert keeper.keep().figures["jobs_removed"] == 0
    keeper.days = 90.1
    place = keeper.place(id)
    report = keeper.keep()
    assert (report.ok, report.figures["jobs_removed"]) == (True, 1)
    assert keeper.known(id) == []
    assert place.exists(), "files are deleted when that is asked for"


def test_its_key_makes_a_new_job_then(keeper: Keeper) -> None:
    id = keeper.done("1")
    assert keeper.ask(MAGNET.replace("a1", "01"), key="1") == id, "a known key never restarts a finished job"
    assert keeper.job(id).state is State.DONE
    keeper.days = 91
    keeper.keep()
    assert keeper.ask(MAGNET.replace("a1", "01"), key="1") == id
    assert not keeper.job(id).terminal


def test_what_is_on_its_way_or_seeds_stays_however_old(keeper: Keeper) -> None:
    on_its_way, seeding = keeper.ask(), keeper.seeding()
    keeper.tell()
    keeper.days = 1_000
    assert keeper.keep(keep_jobs=1, keep_files_days=1.0, keep_user_bytes=1).figures["jobs_removed"] == 0
    assert keeper.known(on_its_way, seeding) == [on_its_way, seeding]
    assert keeper.place(seeding).exists()


def test_a_job_of_which_somebody_has_not_been_told_stays(keeper: Keeper) -> None:
    id = keeper.done("1")
    job = keeper.job(id)
    keeper.services.store.apply([Change(job, job.noted(keeper.time(), "something", event=job.events[0].type))])
    keeper.days = 91
    report = keeper.keep()
    assert (report.figures["jobs_removed"], report.figures["jobs_untold"]) == (0, 1)
    keeper.tell()
    assert keeper.keep().figures["jobs_removed"] == 1


def test_of_too_many_finished_jobs_those_recorded_first_go(keeper: Keeper) -> None:
    ids = [keeper.done(f"{n}") for n in range(1, 6)]
    keeper.days = 1.9
    assert keeper.keep(keep_jobs=3).figures["jobs_removed"] == 0, "it counts for its user's day"
    keeper.days = 2.1
    assert keeper.keep(keep_jobs=3).figures["jobs_removed"] == 2
    assert keeper.known(*ids) == ids[2:]
    assert keeper.keep(keep_jobs=3).figures["jobs_removed"] == 0


def test_a_failed_job_lets_go_of_what_was_fetched_and_the_owner_of_its_engine_deletes_it(keeper: Keeper) -> None:
    id = keeper.failed("1")
    work = keeper.work(keeper.job(id))
    keeper.days = 13
    assert keeper.keep().figures["work_let_go"] == 0
    keeper.days = 15
    assert keeper.keep().figures["work_let_go"] == 1
    assert work.exists(), "its engine's owner alone deletes there"
    keeper.seen_anew()
    keeper.seen_anew()
    assert not work.exists()
    assert keeper.job(id).state is State.FAILED
    control(keeper.services, id, Action.RETRY)
    keeper.tick()
    admit(keeper.services, 100)
    keeper.tick()
    again = keeper.job(id)
    assert again.state is State.DOWNLOADING
    assert keeper.work(again) != work, "a retry begins anew, in a place of its own"


def test_a_failed_job_stays_until_what_was_fetched_of_it_is_gone(keeper: Keeper) -> None:
    id = keeper.failed("1")
    keeper.days = 91
    assert keeper.keep().figures["jobs_removed"] == 0, "only its record tells the owner that this may be deleted"
    keeper.seen_anew()
    keeper.seen_anew()
    assert keeper.keep().figures["jobs_removed"] == 1
    assert keeper.known(id) == []


def test_files_older_than_asked_for_go_and_their_job_says_so(keeper: Keeper) -> None:
    id = keeper.done("1")
    place = keeper.place(id)
    keeper.days = 31
    report = keeper.keep(keep_files_days=30.0)
    assert report.figures["files_removed"] == 1
    assert not place.exists()
    assert not place.parent.exists()
    assert "its files are being deleted" in keeper.job(id).events[-1].text
    assert keeper.job(id).state is State.DONE
    assert keeper.keep(keep_files_days=30.0).figures["files_removed"] == 0


def test_files_that_a_person_had_put_somewhere_are_never_deleted(keeper: Keeper, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    id = keeper.done("1", out=str(home))
    place = keeper.place(id)
    keeper.days = 91
    report = keeper.keep(keep_files_days=1.0, keep_user_bytes=1)
    assert (report.figures["files_removed"], report.figures["jobs_removed"]) == (0, 1)
    assert place.exists()


def test_a_user_with_too_many_bytes_loses_the_oldest_files_and_never_the_newest(keeper: Keeper) -> None:
    ids = [keeper.done(f"{n}") for n in range(1, 5)]
    sizes = [keeper.place(id).stat().st_size if keeper.place(id).is_file() else 0 for id in ids]
    one = max(sizes)
    assert sizes == [one] * 4
    assert one > 0
    keeper.keep(keep_user_bytes=2 * one)
    assert [keeper.place(id).exists() for id in ids] == [False, False, True, True]
    keeper.keep(keep_user_bytes=1)
    assert [keeper.place(id).exists() for id in ids] == [False, False, False, True]


def test_a_record_stays_while_its_files_are_to_go_by_their_own_age(keeper: Keeper) -> None:
    id = keeper.done("1")
    keeper.days = 91
    keeper.keep(keep_files_days=180.0)
    assert keeper.known(id) == [id]
    keeper.days = 181
    keeper.keep(keep_files_days=180.0)
    assert keeper.known(id) == []


def test_a_rehearsal_says_what_would_go_and_changes_nothing(keeper: Keeper) -> None:
    ids = [keeper.done("1"), keeper.done("2"), keeper.failed("3")]
    keeper.days = 91
    before = keeper.services.store.get(ids)
    services = keeper.with_settings(keep_files_days=30.0)
    report = retention.rehearse(services)
    figures = ("jobs_removed", "files_removed", "work_let_go")
    assert [report.figures[name] for name in figures] == [2, 2, 1]
    assert keeper.services.store.get(ids) == before
    assert all(keeper.place(id).exists() for id in ids[:2])


def test_a_death_between_the_note_and_the_deletion_leaves_what_the_next_night_finds(keeper: Keeper) -> None:
    id = keeper.done("1")
    keeper.days = 31
    dying = replace(keeper.with_settings(keep_files_days=30.0), failpoints=Failpoints("retention.noted:raise:1"))
    with pytest.raises(FailpointHit):
        retention.run(dying)
    assert keeper.place(id).exists()
    assert keeper.keep(keep_files_days=30.0).figures["files_removed"] == 1
    assert not keeper.place(id).exists()


def test_the_ledger_keeps_more_than_a_look_at_it_reads() -> None:
    assert retention.RUNS_KEPT >= LINES + MISSED_MAX


def test_old_lines_of_the_ledger_go_and_the_newest_of_each_work_stay(keeper: Keeper) -> None:
    store = keeper.services.store
    old = store.now() - 500 * DAY
    store.keep_runs([Run(name, f"{n}", "w", old + n, old + n, True) for n in range(retention.RUNS_KEPT + 7) for name in ("a", "b")])
    assert keeper.keep().figures["runs_removed"] == 14
    assert len(store.runs("a", 1_000)) == retention.RUNS_KEPT


def test_thousands_of_jobs_go_in_batches(keeper: Keeper) -> None:
    from tests.contract.store_jobs import some_jobs

    store = keeper.services.store
    jobs = some_jobs(1_000, "many")
    store.insert(jobs)
    store.apply([Change(job, job.moved(State.CANCELLED, job.created_at, "no")) for job in jobs])
    store.mark_sent({job.id: 2 for job in jobs})
    keeper.days = 200
    assert keeper.keep().figures["jobs_removed"] == 1_000
