"""The difference between records and an engine: by level, so nothing is lost when writing it down fails."""

from __future__ import annotations

from worker.jobs.model import Progress
from worker.jobs.states import Cause, Phase, State
from worker.ports import Fault, Item, ItemStatus
from worker.supervision.diff import Watched, diff

STALL_S = 60.0


def item(status: ItemStatus = ItemStatus.RUNNING, done: int = 0, phase: Phase | None = None) -> Item:
    fault = Fault(Cause.HTTP, True, "503") if status is ItemStatus.FAILED else None
    return Item("h", status, "t", Progress(done=done), phase, fault)


def watched(state: State = State.DOWNLOADING, phase: Phase | None = None, done: int = 0, moved_at: float = 0.0) -> dict[str, Watched]:
    return {"h": Watched("job", state, phase, done, moved_at)}


def test_what_is_complete_is_found_again_until_it_is_recorded() -> None:
    known = watched()
    for _ in range(2):
        assert diff(known, {"h": item(ItemStatus.COMPLETE)}, 1.0, STALL_S).complete == ["h"]
    known["h"].state = State.FINISHING
    assert diff(known, {"h": item(ItemStatus.COMPLETE)}, 1.0, STALL_S).quiet


def test_a_download_the_engine_does_not_know_is_missing_and_a_paused_one_is_not() -> None:
    assert diff(watched(), {}, 1.0, STALL_S).missing == ["h"]
    assert diff(watched(State.PAUSED), {}, 1.0, STALL_S).quiet


def test_failures_and_stops_are_told_apart() -> None:
    assert diff(watched(), {"h": item(ItemStatus.FAILED)}, 1.0, STALL_S).failed == ["h"]
    assert diff(watched(), {"h": item(ItemStatus.PAUSED)}, 1.0, STALL_S).stopped == ["h"]


def test_a_paused_record_whose_item_runs_is_stopped_again() -> None:
    assert diff(watched(State.PAUSED), {"h": item()}, 1.0, STALL_S).running == ["h"]


def test_items_nobody_watches_are_reported() -> None:
    assert diff({}, {"h": item()}, 1.0, STALL_S).foreign == ["h"]


def test_the_stall_clock_counts_bytes_and_starts_anew_with_each() -> None:
    known = watched(done=10, moved_at=0.0)
    assert diff(known, {"h": item(done=10)}, 59.0, STALL_S).quiet
    assert diff(known, {"h": item(done=10)}, 60.0, STALL_S).phases == {"h": Phase.STALLED}
    assert diff(known, {"h": item(done=11)}, 61.0, STALL_S).quiet
    assert known["h"].moved_at == 61.0


def test_the_stall_clock_rests_while_the_engine_queues_or_checks() -> None:
    known = watched(done=10, moved_at=0.0)
    assert diff(known, {"h": item(ItemStatus.WAITING, done=10)}, 500.0, STALL_S).quiet
    assert diff(known, {"h": item(done=10, phase=Phase.CHECKING)}, 1000.0, STALL_S).phases == {"h": Phase.CHECKING}


def test_a_new_phase_is_found() -> None:
    assert diff(watched(), {"h": item(phase=Phase.METADATA)}, 1.0, STALL_S).phases == {"h": Phase.METADATA}
