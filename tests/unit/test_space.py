"""What fits on a volume, in values: the formula, the words, and who goes first."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.admission import space as module
from worker.admission.decide import Admit, EngineView, Reject, Wait, decide
from worker.admission.space import Space, Volume, goes_first
from worker.jobs.description import Description
from worker.jobs.directories import allocated_bytes
from worker.jobs.model import Job, Progress, SourceKind, Transfer, new_job
from worker.jobs.needs import expected, promised
from worker.jobs.probe import Probe
from worker.jobs.requests import parse
from worker.jobs.states import Reason, State
from worker.limits import FREE_BYTES_MIN, SHORT_PATIENCE_S
from worker.ports import Features, Promised

GB = 1024**3
RESERVE = 1 * GB


def queued(size: int | None = None, **changes: object) -> Job:
    job = new_job(parse({"uri": "http://host/x", "user": "u"}), 1.0)
    return replace(job, probe=None if size is None else Probe(size), **changes)  # type: ignore[arg-type]


def space(free: int, *, size: int = 100 * GB, owed: int = 0) -> Space:
    """One volume with the engines `a` and `b` on it."""
    return Space({7: Volume(size, free, owed)}, {"a": 7, "b": 7}, RESERVE)


def view(name: str = "a") -> EngineView:
    return EngineView(name, Features(frozenset({SourceKind.HTTP})), capacity=9, live=0, alive=True)


# ---- what a job is expected to need ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job", "size"),
    [
        (queued(), None),
        (queued(5), 5),
        (queued(5, progress=Progress(total=9)), 9),
        (queued(5, progress=Progress(total=0)), 0),
        (queued(description=Description("d", "x", 50, 3)), 50),
        (queued(description=Description("d", "x", 50, 3, selected=20), select=(1,)), 20),
        (queued(description=Description("d", "x", 50, 3), select=(1,)), None),
    ],
)
def test_what_a_job_needs_is_what_its_engine_knows_or_else_what_was_announced(job: Job, size: int | None) -> None:
    assert expected(job) == size


def test_space_is_promised_to_a_job_from_admission_to_its_end_unless_the_disk_was_full() -> None:
    transfer = Transfer("t", "a", 1, "/w", 0.0)
    assert promised(queued(5)) is None
    for state in (State.SUBMITTING, State.DOWNLOADING, State.PAUSED, State.FINISHING, State.QUEUED):
        assert promised(queued(5, state=state, transfer=transfer)) == 5
    assert promised(queued(5, transfer=transfer, reason=Reason.SPACE)) is None
    assert promised(queued(5, transfer=transfer, state=State.DONE)) is None
    assert promised(queued(transfer=transfer)) == 0


# ---- the formula -----------------------------------------------------------------------------------------------


def test_a_job_fits_to_the_byte() -> None:
    volume = space(10 * GB, owed=4 * GB)
    assert volume.shortage(queued(5 * GB), "a") is None
    assert volume.shortage(queued(5 * GB + 1), "a")


def test_a_job_that_does_not_fit_says_how_much_is_missing() -> None:
    shortage = space(4 * GB, owed=GB).shortage(queued(int(3.1 * GB)), "a")
    assert shortage
    assert (shortage.text, shortage.never) == ("needs 3.1 GiB, 2.0 GiB are free and not promised to other jobs", False)


def test_engines_on_one_device_share_it() -> None:
    volume = space(10 * GB)
    volume.take(queued(5 * GB), "a")
    assert volume.shortage(queued(5 * GB), "b")
    assert volume.shortage(queued(4 * GB), "b") is None


def test_what_can_never_fit_is_told_apart_from_what_has_to_wait() -> None:
    shortage = space(0, size=10 * GB).shortage(queued(9 * GB + 1), "a")
    assert shortage
    assert (shortage.never, shortage.text) == (True, "it needs 9.0 GiB, and the disk has room for 9.0 GiB at most")
    waits = space(0, size=10 * GB).shortage(queued(9 * GB), "a")
    assert waits
    assert not waits.never


def test_a_job_of_unknown_size_starts_while_anything_is_left_and_needs_more_once_it_found_the_disk_full() -> None:
    assert space(RESERVE + 1).shortage(queued(), "a") is None
    short = space(RESERVE).shortage(queued(), "a")
    assert short
    assert short.text == "its size is not known, 0 B are free and not promised to other jobs"
    tried = queued(reason=Reason.SPACE)
    assert space(RESERVE + FREE_BYTES_MIN - 1).shortage(tried, "a")
    assert space(RESERVE + FREE_BYTES_MIN).shortage(tried, "a") is None


def test_of_a_volume_that_nobody_has_seen_nothing_is_said() -> None:
    assert Space({}, {}, RESERVE).shortage(queued(GB), "a") is None


def test_on_a_volume_that_is_not_seen_nothing_counts_as_allocated() -> None:
    unseen = Space({"a": Volume(None, 10 * GB)}, {"a": "a"}, RESERVE)
    unseen.include([Promised("a", None, owed=1, whole=8 * GB)])
    assert unseen.shortage(queued(GB), "a") is None
    assert unseen.shortage(queued(GB + 1), "a")
    assert unseen.shortage(queued(1000 * GB), "a").never is False  # type: ignore[union-attr]


def test_what_a_job_has_on_the_disk_already_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1_000_000)
    kept, entries = allocated_bytes(str(tmp_path))
    assert kept >= 1_000_000
    assert entries == 1
    job = queued(5 * GB, transfer=Transfer("t", "a", 1, str(tmp_path), 0.0), reason=Reason.SPACE)
    assert space(RESERVE + 5 * GB - kept).shortage(job, "a") is None
    assert space(RESERVE + 5 * GB - kept - 1).shortage(job, "a")
    assert space(RESERVE + 5 * GB - kept).shortage(job, "b"), "another engine begins anew"


def test_a_job_that_is_tried_again_is_not_in_its_own_way() -> None:
    job = queued(5 * GB, transfer=Transfer("t", "a", 1, "/nowhere", 0.0), reason=Reason.SCHEDULE)
    volume = space(6 * GB)
    volume.include([Promised("a", None, 5 * GB, 5 * GB)])
    assert volume.shortage(job, "a") is None
    assert volume.shortage(queued(1), "a"), "another would be"
    volume.take(job, "a")
    assert volume.shortage(queued(1), "a")


def test_a_place_on_another_device_needs_room_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_seen", lambda _directory: (8, Volume(100 * GB, 4 * GB)))
    job = queued(3 * GB, out=str(tmp_path / "not" / "yet"))
    volume = space(50 * GB)
    assert volume.shortage(job, "a") is None
    volume.take(job, "a")
    assert volume.shortage(job, "a"), "one more would not fit there"
    assert volume.shortage(queued(3 * GB), "a") is None
    kept = space(50 * GB)
    kept.include([Promised("a", str(tmp_path), owed=0, whole=GB)])
    assert kept.shortage(job, "a"), "what others are to put there is off, though it lies on this device"


SIZES = st.lists(st.one_of(st.none(), st.integers(0, 4_000)), max_size=40)


@given(free=st.integers(0, 10_000), owed=st.integers(0, 5_000), reserve=st.integers(0, 3_000), sizes=SIZES)
def test_what_is_admitted_in_one_go_never_exceeds_what_was_available(free: int, owed: int, reserve: int, sizes: list[int | None]) -> None:
    volume = Space({7: Volume(10_000, free, owed)}, {"a": 7, "b": 7}, reserve)
    admitted, refused = 0, []
    for number, size in enumerate(sizes):
        engine = "ab"[number % 2]
        if volume.shortage(queued(size), engine) is None:
            volume.take(queued(size), engine)
            admitted += 1 if size is None else size  # one of unknown size needs a byte
        elif size is not None:
            refused.append(size)
    assert admitted <= max(0, free - owed - reserve)
    assert all(size > free - owed - reserve - admitted for size in refused), "what fits is not kept waiting"


@given(st.data())
def test_what_jobs_write_while_we_look_makes_less_available_and_never_more(data: st.DataObject) -> None:
    """Records first, then the volume: jobs allocate and others of ours end between any two of these moments."""
    size = 10_000
    jobs = data.draw(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=10))  # expected, allocated when measured
    more = [data.draw(st.integers(0, max(0, need - done))) for need, done in jobs]  # allocated since, before the volume is read
    recorded = sum(max(0, need - done) for need, done in jobs)
    free = size - sum(done + later for (_, done), later in zip(jobs, more, strict=True))
    found = Volume(size, free, recorded).available(0)
    will_be_taken = sum(max(need, done + later) for (need, done), later in zip(jobs, more, strict=True))
    assert found <= size - will_be_taken


# ---- who goes first --------------------------------------------------------------------------------------------


def test_a_job_goes_first_for_ever_longer_times_with_ever_longer_times_between() -> None:
    units = [0.5, 1, 1.9, 2, 3.9, 4, 7.9, 8, 15.9, 16]
    assert [goes_first(unit * SHORT_PATIENCE_S) for unit in units] == [False, True, True, False, False, True, True, False, False, True]


def test_small_jobs_pass_a_large_one_until_it_has_waited_too_long() -> None:
    large, small = queued(5 * GB, id="large", short_since=0.0), queued(GB)
    volume = space(4 * GB)
    volume.hold(large, ["a", "b"], SHORT_PATIENCE_S - 1)
    assert volume.shortage(small, "a") is None
    volume.hold(large, ["a", "b"], SHORT_PATIENCE_S)
    kept_back = volume.shortage(small, "b")
    assert kept_back
    assert kept_back.text == "needs 1.0 GiB, and a job that has waited longer for 5.0 GiB goes first"
    assert "2.0 GiB" not in kept_back.text


def test_the_one_that_goes_first_takes_what_it_waited_for_and_the_rest_is_for_all() -> None:
    large = queued(5 * GB, id="large", short_since=0.0)
    volume = space(10 * GB)
    volume.hold(large, ["a"], SHORT_PATIENCE_S)
    assert volume.shortage(queued(4 * GB), "a") is None, "there is enough for both"
    assert volume.shortage(queued(4 * GB + 1), "a")
    assert volume.shortage(large, "a") is None
    volume.take(large, "a")
    assert volume.shortage(queued(4 * GB), "a") is None


def test_one_job_at_a_time_goes_first_the_one_that_has_waited_longest() -> None:
    volume = space(4 * GB)
    for name, size in (("older", 5 * GB), ("younger", 9 * GB)):
        volume.hold(queued(size, id=name, short_since=0.0), ["a"], SHORT_PATIENCE_S)
    kept_back = volume.shortage(queued(2 * GB, id="younger"), "a")
    assert kept_back
    assert "5.0 GiB goes first" in kept_back.text


def test_what_can_never_fit_holds_up_nobody() -> None:
    volume = space(4 * GB, size=10 * GB)
    volume.hold(queued(50 * GB, id="large", short_since=0.0), ["a"], SHORT_PATIENCE_S)
    assert volume.shortage(queued(GB), "a") is None


# ---- the decision ----------------------------------------------------------------------------------------------


def test_a_job_goes_to_the_engine_whose_volume_has_room() -> None:
    two = Space({1: Volume(100 * GB, 2 * GB), 2: Volume(100 * GB, 20 * GB)}, {"a": 1, "b": 2}, RESERVE)
    assert decide(queued(5 * GB), {"a": view("a"), "b": view("b")}, 0, two) == Admit("b")


def test_a_job_that_no_volume_has_room_for_waits_and_says_so() -> None:
    decision = decide(queued(5 * GB), {"a": view()}, 0, space(2 * GB))
    assert decision == Wait(Reason.SPACE, "waits: needs 5.0 GiB, 1.0 GiB are free and not promised to other jobs")


def test_a_job_is_refused_only_when_it_fits_on_none_of_the_volumes_that_may_take_it() -> None:
    small, large = Volume(4 * GB, 4 * GB), Volume(50 * GB, 4 * GB)
    two = Space({1: small, 2: large}, {"a": 1, "b": 2}, RESERVE)
    engines = {"a": view("a"), "b": view("b")}
    assert isinstance(decide(queued(9 * GB), engines, 0, two), Wait)
    assert isinstance(decide(queued(9 * GB, engine="a"), engines, 0, two), Reject)
    assert isinstance(decide(queued(90 * GB), engines, 0, two), Reject)
    engines["b"] = replace(engines["b"], alive=False)
    assert isinstance(decide(queued(9 * GB), engines, 0, two), Wait)


# ---- the disk itself -------------------------------------------------------------------------------------------


def test_what_is_allocated_and_not_written_counts_and_what_is_beyond_the_bound_does_not(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    with (tmp_path / "deep" / "allocated").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2_000_000)
    (tmp_path / "sparse").touch()
    os.truncate(tmp_path / "sparse", 50_000_000)
    size, entries = allocated_bytes(str(tmp_path))
    assert 2_000_000 <= size < 3_000_000
    assert entries == 3
    assert allocated_bytes(str(tmp_path), 1)[1] == 1
    assert allocated_bytes(str(tmp_path / "not there")) == (0, 0)
