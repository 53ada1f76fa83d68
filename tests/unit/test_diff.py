"""The difference between records and an engine: by level, so nothing is lost when writing it down fails."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.jobs_by_hypothesis import a_job
from worker.jobs.model import Progress
from worker.jobs.retries import REST
from worker.jobs.states import Cause, Phase, State
from worker.ports import Fault, Item, ItemStatus
from worker.supervision.diff import Patience, Watched, diff, remembered

PATIENCE = Patience(stalled_s=60.0, stall_s=600.0, metadata_s=300.0)


def item(status: ItemStatus = ItemStatus.RUNNING, done: int = 0, phase: Phase | None = None) -> Item:
    fault = Fault(Cause.HTTP, True, "503") if status is ItemStatus.FAILED else None
    return Item("h", status, "t", Progress(done=done), phase, fault)


def watched(state: State = State.DOWNLOADING, phase: Phase | None = None, done: int = 0, moved_at: float = 0.0) -> dict[str, Watched]:
    return {"h": Watched("job", state, phase, done, moved_at, mark=done, marked_at=moved_at)}


def test_what_is_complete_is_found_again_until_it_is_recorded() -> None:
    known = watched()
    for _ in range(2):
        assert diff(known, {"h": item(ItemStatus.COMPLETE)}, 1.0, PATIENCE).complete == ["h"]
    known["h"].state = State.FINISHING
    assert diff(known, {"h": item(ItemStatus.COMPLETE)}, 1.0, PATIENCE).quiet


def test_a_download_the_engine_does_not_know_is_missing_and_a_paused_one_is_not() -> None:
    assert diff(watched(), {}, 1.0, PATIENCE).missing == ["h"]
    assert diff(watched(State.PAUSED), {}, 1.0, PATIENCE).quiet


def test_failures_and_stops_are_told_apart() -> None:
    assert diff(watched(), {"h": item(ItemStatus.FAILED)}, 1.0, PATIENCE).failed == ["h"]
    assert diff(watched(), {"h": item(ItemStatus.PAUSED)}, 1.0, PATIENCE).stopped == ["h"]


def test_a_paused_record_whose_item_runs_is_stopped_again() -> None:
    assert diff(watched(State.PAUSED), {"h": item()}, 1.0, PATIENCE).running == ["h"]


def test_items_nobody_watches_are_reported() -> None:
    assert diff({}, {"h": item()}, 1.0, PATIENCE).foreign == ["h"]


def test_the_stall_clock_counts_bytes_and_starts_anew_with_each() -> None:
    known = watched(done=10, moved_at=0.0)
    assert diff(known, {"h": item(done=10)}, 59.0, PATIENCE).quiet
    assert diff(known, {"h": item(done=10)}, 60.0, PATIENCE).phases == {"h": Phase.STALLED}
    assert diff(known, {"h": item(done=11)}, 61.0, PATIENCE).quiet
    assert known["h"].moved_at == 61.0


def test_the_stall_clock_rests_while_the_engine_queues_or_checks() -> None:
    known = watched(done=10, moved_at=0.0)
    assert diff(known, {"h": item(ItemStatus.WAITING, done=10)}, 500.0, PATIENCE).quiet
    assert diff(known, {"h": item(done=10, phase=Phase.CHECKING)}, 1000.0, PATIENCE).phases == {"h": Phase.CHECKING}


def test_a_new_phase_is_found() -> None:
    assert diff(watched(), {"h": item(phase=Phase.METADATA)}, 1.0, PATIENCE).phases == {"h": Phase.METADATA}


def test_a_download_that_gets_no_byte_for_too_long_is_given_up() -> None:
    known = watched(done=10, moved_at=0.0, phase=Phase.STALLED)
    assert diff(known, {"h": item(done=10)}, 599.0, PATIENCE).quiet
    found = diff(known, {"h": item(done=10)}, 600.0, PATIENCE)
    assert (found.dead["h"].cause, found.dead["h"].passing, found.phases) == (Cause.STALLED, True, {})
    assert diff(watched(done=9), {"h": item(done=10)}, 600.0, PATIENCE).dead == {}


def test_a_torrent_whose_description_never_comes_is_given_up_and_never_shown_as_stalled() -> None:
    known = watched(phase=Phase.METADATA)
    waiting = {"h": item(phase=Phase.METADATA)}
    assert diff(known, waiting, 1.0, PATIENCE).quiet
    assert diff(known, waiting, 300.0, PATIENCE).quiet
    assert diff(known, waiting, 301.0, PATIENCE).dead["h"].cause is Cause.METADATA


def test_the_stall_clock_starts_anew_when_the_description_has_come() -> None:
    known = watched(phase=Phase.METADATA)
    diff(known, {"h": item(phase=Phase.METADATA)}, 1.0, PATIENCE)
    assert diff(known, {"h": item(phase=Phase.TRANSFER)}, 250.0, PATIENCE).phases == {"h": Phase.TRANSFER}
    assert diff(known, {"h": item(phase=Phase.TRANSFER)}, 309.0, PATIENCE).phases == {"h": Phase.TRANSFER}
    assert diff(known, {"h": item(phase=Phase.TRANSFER)}, 310.0, PATIENCE).phases == {"h": Phase.STALLED}


def test_bytes_that_drip_are_a_sign_of_life_and_do_not_keep_a_slot() -> None:
    known = watched(done=0, phase=None)
    patience = Patience(stalled_s=60.0, stall_s=600.0, metadata_s=300.0, least_bytes=1_000)
    for second in range(1, 600):
        assert diff(known, {"h": item(done=second)}, float(second), patience).quiet
    fault = diff(known, {"h": item(done=600)}, 600.0, patience).dead["h"]
    assert (fault.cause, fault.elsewhere) == (Cause.STALLED, False)
    assert "next to nothing came for 10 min" in fault.detail


def test_what_got_nothing_at_all_may_go_to_another_engine() -> None:
    fault = diff(watched(), {"h": item()}, 600.0, PATIENCE).dead["h"]
    assert fault.elsewhere
    assert fault.detail == "not a byte came for 10 min, and nobody is connected"
    assert fault.retry_after_s == REST * PATIENCE.stall_s


def test_a_clock_that_ran_under_another_owner_goes_on() -> None:
    job = a_job(state=State.DOWNLOADING, phase=Phase.STALLED, phase_at=1_000.0, progress=Progress(done=7))
    known = {"h": remembered(job, 50.0, lambda: 1_400.0, PATIENCE)}
    shown = {"h": item(done=7, phase=Phase.TRANSFER)}
    assert diff(known, shown, 50.0 + 139, PATIENCE).quiet, "460 s had gone"
    assert "h" in diff(known, shown, 50.0 + 141, PATIENCE).dead
    fresh = {"h": remembered(job, 50.0, lambda: 1_400.0, PATIENCE)}
    assert diff(fresh, {"h": item(done=8, phase=Phase.TRANSFER)}, 50.0 + 141, PATIENCE).dead == {}, "a byte came meanwhile"
    magnet = replace(job, phase=Phase.METADATA, progress=Progress())
    known = {"h": remembered(magnet, 50.0, lambda: 1_200.0, PATIENCE)}
    assert "h" in diff(known, {"h": item(phase=Phase.METADATA)}, 50.0 + 101, PATIENCE).dead
