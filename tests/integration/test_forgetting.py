"""What retention forgets beside the jobs themselves: `.torrent` files, and receivers that are gone; and what it says once."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.contract.store_jobs import a_torrent_job, described
from tests.integration.test_retention import DAY, Keeper
from tests.torrents import pack
from worker.admission.doors import accept
from worker.failpoints import FailpointHit, Failpoints
from worker.jobs import requests
from worker.jobs.events import EventType
from worker.jobs.hooks import FIRST, Hook, receiver_of
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.maintenance import retention, torrents
from worker.maintenance.report import Report
from worker.ports import Change

TORRENT = pack().document
UPLOAD = base64.b64encode(TORRENT).decode()
ADDRESS, OTHER = "https://bot.example/hook", "https://other.example/hook"


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(tmp_path)
    yield keeper
    keeper.services.close()


def uploaded(keeper: Keeper, key: str = "1") -> Job:
    """A job that came with its `.torrent` file."""
    [answer] = accept(keeper.services, [requests.parse({"torrent": UPLOAD, "user": "u", "key": key})])
    assert not isinstance(answer, Exception), answer
    return answer.job


def ended(keeper: Keeper, job: Job, *, told: bool = True, **changes: Any) -> Job:
    """The job, cancelled."""
    cancelled = job.moved(State.CANCELLED, keeper.time(), "cancelled", event=EventType.CANCELLED, **changes)
    assert keeper.services.store.apply([Change(job, cancelled)])[0].won
    if told:
        keeper.tell()
    return cancelled


def name_of(job: Job) -> str:
    assert job.description is not None
    return job.description.document


def night(keeper: Keeper, **settings: Any) -> Report:
    """A day passes by both clocks, and retention runs."""
    keeper.days += 1
    keeper.now += DAY
    return keeper.keep(**settings)


# ---- .torrent files ----------------------------------------------------------------------------------------------


def test_the_torrent_of_a_forgotten_job_is_noted_one_night_and_goes_the_next(keeper: Keeper) -> None:
    job = ended(keeper, uploaded(keeper))
    name = name_of(job)
    report = night(keeper)
    assert report.figures["torrents_removed"] == 0
    keeper.days += 91
    report = night(keeper)
    assert (report.figures["jobs_removed"], report.figures["torrents_removed"]) == (1, 0)
    assert keeper.services.store.torrents([name])
    report = night(keeper)
    assert report.figures["torrents_removed"] == 1
    assert "1 .torrent files" in report.summary
    assert keeper.services.store.torrents([name]) == {}
    assert night(keeper).figures["torrents_removed"] == 0


def test_a_torrent_that_another_job_names_stays_with_it(keeper: Keeper) -> None:
    old, young = ended(keeper, uploaded(keeper, "1")), uploaded(keeper, "2")
    assert name_of(old) == name_of(young)
    keeper.days += 91
    assert night(keeper).figures["jobs_removed"] == 1
    assert sum(night(keeper).figures["torrents_removed"] for _ in range(3)) == 0
    assert keeper.services.store.torrents([name_of(young)]) == {name_of(young): TORRENT}


def test_a_torrent_that_is_sent_again_after_it_was_noted_stays(keeper: Keeper) -> None:
    first = ended(keeper, uploaded(keeper))
    keeper.days += 91
    night(keeper)
    dying = replace(keeper.services, failpoints=Failpoints("accept.kept:raise:1"))
    with pytest.raises(FailpointHit):  # kept, and its job is not recorded yet
        accept(dying, [requests.parse({"torrent": UPLOAD, "user": "u", "key": "again"})])
    assert night(keeper).figures["torrents_removed"] == 0
    again = uploaded(keeper, "again")
    assert sum(night(keeper).figures["torrents_removed"] for _ in range(3)) == 0
    assert keeper.services.store.torrents([name_of(again)]) == {name_of(first): TORRENT}


def test_what_a_request_left_that_never_became_a_job_goes(keeper: Keeper) -> None:
    name = keeper.services.store.keep_torrent(TORRENT)
    assert [night(keeper, keep_jobs_days=0.0).figures["torrents_removed"] for _ in range(3)] == [0, 1, 0]
    assert keeper.services.store.torrents([name]) == {}


def test_a_run_by_hand_in_the_same_night_removes_nothing_early(keeper: Keeper) -> None:
    keeper.services.store.keep_torrent(TORRENT)
    night(keeper)
    keeper.now += torrents.NOTED_S - 60
    assert keeper.keep().figures["torrents_removed"] == 0
    keeper.now += 120
    assert keeper.keep().figures["torrents_removed"] == 1


def test_a_rehearsal_counts_torrents_and_notes_nothing(keeper: Keeper) -> None:
    store = keeper.services.store
    name = store.keep_torrent(TORRENT)
    assert retention.rehearse(keeper.services).figures["torrents_removed"] == 0
    assert store.unnamed_torrents(9).unnamed == {name: None}
    night(keeper)
    assert retention.rehearse(keeper.services).figures["torrents_removed"] == 0, "it was noted just now"
    keeper.now += DAY
    before = store.unnamed_torrents(9)
    assert retention.rehearse(keeper.services).figures["torrents_removed"] == 1
    assert store.unnamed_torrents(9) == before
    assert store.torrents([name])
    assert keeper.keep().figures["torrents_removed"] == 1


def test_many_torrents_go_in_small_batches_and_those_of_jobs_among_them_stay(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    store = keeper.services.store
    names = sorted(store.keep_torrent(b"%d" % number) for number in range(torrents.AT_ONCE * 2 + 3))
    store.insert([described(a_torrent_job(name), name) for name in names[:2]])
    monkeypatch.setattr(torrents, "LOOK", 7)
    night(keeper)
    given: list[int] = []
    forget = store.forget_torrents
    monkeypatch.setattr(store, "forget_torrents", lambda names, before: given.append(len(names)) or forget(names, before))
    assert night(keeper).figures["torrents_removed"] == len(names) - 2
    assert max(given) <= torrents.AT_ONCE
    assert sorted(store.torrents(names)) == names[:2]


def test_a_night_without_time_leaves_torrents_for_the_next(keeper: Keeper, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper.services.store.keep_torrent(TORRENT)
    night(keeper)
    with monkeypatch.context() as short:
        short.setattr(retention, "BUDGET_S", 0.0)
        report = night(keeper)
        assert report.figures["torrents_removed"] == 0
        assert "the rest goes the next time" in report.summary
    assert night(keeper).figures["torrents_removed"] == 1


# ---- files that cannot be deleted --------------------------------------------------------------------------------


def test_a_directory_that_cannot_be_deleted_is_told_of_once_on_its_job_and_each_night_in_the_report(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = keeper.done("1")
    keeper.days = 31

    def refused(path: Path) -> None:
        raise PermissionError(1, os.strerror(1), str(path))

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "rmtree", refused)
        reports = [night(keeper, keep_files_days=30.0) for _ in range(3)]
    assert [(report.ok, report.figures["files_removed"], len(report.details["faults"])) for report in reports] == [(False, 0, 1)] * 3
    assert [event.text.startswith(retention.DELETING) for event in keeper.job(id).events].count(True) == 1
    assert night(keeper, keep_files_days=30.0).figures["files_removed"] == 1
    assert [event.text.startswith(retention.DELETING) for event in keeper.job(id).events].count(True) == 1
    assert not keeper.place(id).exists()


# ---- receivers that are gone -------------------------------------------------------------------------------------


def hooked(keeper: Keeper, receiver: str, *, told: bool = True) -> Job:
    """A job that has ended, whose receiver took nothing."""
    job = replace(a_torrent_job(f"{receiver or 'first'}"), hook=Hook(receiver, "host"), created_at=keeper.time())
    keeper.services.store.insert([job])
    return ended(keeper, job, told=told)


def with_receivers(*addresses: str) -> dict[str, Any]:
    return {"webhooks": tuple(map(SecretStr, addresses))}


@pytest.mark.parametrize(("receiver", "there"), [(receiver_of(ADDRESS), (OTHER,)), (receiver_of(ADDRESS), ()), (FIRST, ())])
def test_a_receiver_that_was_taken_out_of_the_settings_holds_no_job(keeper: Keeper, receiver: str, there: tuple[str, ...]) -> None:
    job = hooked(keeper, receiver)
    keeper.days = 91
    services = keeper.with_settings(**with_receivers(*there))
    assert retention.rehearse(services).figures["jobs_unheard"] == 1
    assert keeper.job(job.id).hook == job.hook, "a rehearsal gives nothing up"
    report = retention.run(services)
    assert [report.figures[name] for name in ("jobs_removed", "jobs_untold", "jobs_unheard")] == [1, 0, 1]
    assert "a receiver that is gone was not told" in report.summary
    assert keeper.known(job.id) == []
    assert keeper.services.metrics.webhooks_given_up._value.get() == 2


@pytest.mark.parametrize("receiver", [receiver_of(ADDRESS), FIRST])
def test_a_receiver_that_is_there_and_took_nothing_yet_holds_its_job(keeper: Keeper, receiver: str) -> None:
    job = hooked(keeper, receiver)
    keeper.days = 91
    report = keeper.keep(**with_receivers(ADDRESS, OTHER))
    assert [report.figures[name] for name in ("jobs_removed", "jobs_untold", "jobs_unheard")] == [0, 1, 0]
    assert keeper.job(job.id).hook == job.hook


def test_events_never_told_to_the_stream_hold_a_job_whose_receiver_is_gone(keeper: Keeper) -> None:
    job = hooked(keeper, receiver_of(ADDRESS), told=False)
    keeper.days = 91
    report = keeper.keep()
    assert [report.figures[name] for name in ("jobs_removed", "jobs_untold", "jobs_unheard")] == [0, 1, 0]
    assert keeper.job(job.id).hook == job.hook
    keeper.tell()
    assert keeper.keep().figures["jobs_removed"] == 1


def test_a_receiver_that_is_away_for_less_than_three_days_is_waited_for(keeper: Keeper) -> None:
    job = hooked(keeper, receiver_of(ADDRESS))
    keeper.days = 2.9
    assert keeper.keep(keep_jobs_days=2.5).figures["jobs_untold"] == 1
    assert keeper.job(job.id).hook == job.hook
    keeper.days = 3.1
    assert keeper.keep(keep_jobs_days=2.5).figures["jobs_removed"] == 1


def test_a_job_that_stays_for_another_reason_keeps_what_its_receiver_was_not_told(keeper: Keeper) -> None:
    id = keeper.done("1")
    job = keeper.job(id)
    keeper.days = 91
    store = keeper.services.store
    noted = replace(hooked(keeper, receiver_of(ADDRESS)), seeding=True)
    assert job.state is State.DONE
    assert retention._Round(keeper.services, rehearsal=False)._remove([noted]) == 0
    assert store.get([noted.id])[noted.id].hook == noted.hook
