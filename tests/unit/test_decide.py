"""Whether a job may start, and where: values in, a value out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.admission.balance import Balance
from worker.admission.decide import Admit, EngineView, Wait, decide
from worker.admission.space import Space, Volume
from worker.jobs.description import Description
from worker.jobs.model import Job, SourceKind, Transfer, new_job
from worker.jobs.probe import Probe
from worker.jobs.requests import parse, source
from worker.jobs.states import Reason, State
from worker.ports import Features


def engine(name: str = "a", **changes: object) -> EngineView:
    base = EngineView(name, Features(frozenset({SourceKind.HTTP})), capacity=2, live=0, alive=True)
    return replace(base, **changes)  # type: ignore[arg-type]


def queued(**changes: object) -> Job:
    return replace(new_job(parse({"uri": "http://host/x", "user": "u"}), 1.0), **changes)  # type: ignore[arg-type]


def of_torrent(**changes: object) -> Job:
    return replace(new_job(parse({"uri": "http://host/x.torrent", "user": "u"}), 1.0), **changes)  # type: ignore[arg-type]


V2_ALONE = Description("d", "x", 5, 1, v2="2" * 64)
HYBRID = Description("d", "x", 5, 1, v1="1" * 40, v2="2" * 64)
V2_MAGNET = f"magnet:?xt=urn:btmh:1220{'2' * 64}"
TORRENTS = Features(frozenset({SourceKind.TORRENT, SourceKind.MAGNET}), files_max=100)
WITH_V2 = replace(TORRENTS, bittorrent_v2=True, files_max=None)


def views(*engines: EngineView) -> dict[str, EngineView]:
    return {view.name: view for view in engines}


def test_a_job_starts_on_an_engine_that_has_room() -> None:
    assert decide(queued(), views(engine("a", capacity=10, live=10), engine("b", capacity=2, live=0)), 0) == Admit("b")


def test_jobs_go_to_the_engines_as_the_balancer_says() -> None:
    engines = views(engine("a", capacity=10, live=5), engine("b", capacity=10))
    assert decide(queued(), engines, 0, None, Balance("round-robin", 0)) == Admit("a")
    assert decide(queued(), engines, 0, None, Balance("round-robin", 1)) == Admit("b")
    assert decide(queued(), engines, 0, None, Balance("least-loaded")) == Admit("b")


def test_a_job_whose_engines_rest_is_told_of_each_why() -> None:
    engines = views(engine("a", alive=False, trouble="has not answered for 50 s"), engine("b", alive=False, trouble="rests"))
    waits = decide(queued(), engines, 0)
    assert isinstance(waits, Wait)
    assert waits.text == "a has not answered for 50 s; b rests; the job starts when it is back"
    named = decide(queued(engine="b"), engines, 0)
    assert isinstance(named, Wait)
    assert named.text == "b rests; the job starts when it is back, for it is to run there"


def test_an_engine_that_is_drained_is_given_nothing_however_much_room_it_has() -> None:
    drained = engine("a", capacity=100, draining=True)
    assert drained.room == 0
    assert decide(queued(), views(drained, engine("b")), 0) == Admit("b")


@pytest.mark.parametrize("held_by", [engine("a", draining=True), None])
def test_a_resumed_job_leaves_an_engine_that_is_drained_or_gone(held_by: EngineView | None) -> None:
    resumed = queued(transfer=Transfer("t", "a", 1, "/v/.haul/t/a", 0.0))
    others = [engine("b")]
    assert decide(resumed, views(*others, *([held_by] if held_by else [])), 0) == Admit("b")
    assert decide(resumed, views(*others, engine("a")), 0) == Admit("a"), "else it goes on where its bytes are"


def test_a_job_that_fits_on_the_drained_engine_s_disk_alone_waits_for_it_and_is_not_refused() -> None:
    space = Space({1: Volume(1 << 40, 1 << 40), 2: Volume(1 << 30, 1 << 30)}, {"a": 1, "b": 2}, reserve=0)
    decision = decide(queued(probe=Probe(1 << 35)), views(engine("a", draining=True), engine("b")), 0, space)
    assert isinstance(decision, Wait)
    assert (decision.reason, decision.text.partition(";")[0]) == (Reason.ENGINE, "engine a is being drained")


def test_equal_engines_are_taken_in_the_order_of_their_names() -> None:
    assert decide(queued(), views(engine("b"), engine("a")), 0) == Admit("a")


@pytest.mark.parametrize(
    ("job", "engines", "reason", "words"),
    [
        (queued(), [engine(live=2)], Reason.SLOTS, "all 2 slots of a are taken"),
        (queued(), [engine(alive=False)], Reason.ENGINE, "a does not answer"),
        (queued(), [], Reason.ENGINE, "no engine can fetch http"),
        (queued(), [engine(features=Features(frozenset({SourceKind.MAGNET})))], Reason.ENGINE, "no engine can fetch http"),
        (queued(engine="z"), [engine()], Reason.ENGINE, "engine z is not set up"),
        (queued(), [engine(draining=True)], Reason.ENGINE, "engine a is being drained"),
        (queued(engine="a"), [engine(draining=True), engine("b")], Reason.ENGINE, "engine a is being drained"),
        (queued(), [engine(draining=True), engine("b", draining=True)], Reason.ENGINE, "engines a, b are being drained"),
        (queued(), [engine(draining=True), engine("b", alive=False)], Reason.ENGINE, "b does not answer"),
        (queued(), [engine(draining=True), engine("b", live=2)], Reason.SLOTS, "all 2 slots of b are taken"),
        (queued(not_before=15.0, message="refused"), [engine()], Reason.SCHEDULE, "tries again in 5 s: refused"),
        (queued(not_before=15.0, reason=Reason.SPACE, message="no space"), [engine()], Reason.SPACE, "waits: no space"),
        (queued(engine="a"), [engine(features=TORRENTS)], Reason.ENGINE, "engine a cannot fetch http sources"),
        (of_torrent(), [engine(features=TORRENTS)], Reason.DESCRIPTION, "its .torrent file is being fetched"),
        (of_torrent(), [], Reason.DESCRIPTION, "its .torrent file is being fetched"),
        (of_torrent(not_before=15.0, message="busy"), [], Reason.DESCRIPTION, "its .torrent file is fetched again in 5 s: busy"),
        (of_torrent(description=V2_ALONE), [engine(features=TORRENTS)], Reason.ENGINE, "no engine can fetch torrents of version 2 alone"),
        (
            of_torrent(description=V2_ALONE, engine="a"),
            [engine(features=TORRENTS), engine("b", features=WITH_V2)],
            Reason.ENGINE,
            "engine a cannot fetch torrents of version 2 alone",
        ),
    ],
)
def test_a_job_that_cannot_start_says_why(job: Job, engines: list[EngineView], reason: Reason, words: str) -> None:
    decision = decide(job, views(*engines), now=10.0)
    assert isinstance(decision, Wait)
    assert decision.reason is reason
    assert words in decision.text


@pytest.mark.parametrize(
    ("job", "goes_to"),
    [
        (of_torrent(description=V2_ALONE), "b"),
        (of_torrent(description=HYBRID), "b"),
        (queued(source=source(V2_MAGNET)), "b"),
        (queued(source=source(f"{V2_MAGNET}&xt=urn:btih:{'1' * 40}")), "b"),
        (queued(source=source(f"magnet:?xt=urn%3Abtih%3A{'1' * 40}")), "a"),
    ],
    ids=["v2 alone", "hybrid", "v2 magnet", "hybrid magnet", "encoded magnet"],
)
def test_a_torrent_of_version_2_goes_to_an_engine_that_speaks_it(job: Job, goes_to: str) -> None:
    engines = views(engine("a", features=TORRENTS, capacity=9), engine("b", features=WITH_V2, capacity=9, live=1))
    assert decide(job, engines, 0) == Admit(goes_to)


def test_a_hybrid_goes_to_an_engine_that_knows_only_the_first_version_when_there_is_no_other() -> None:
    older = engine("a", features=TORRENTS)
    assert decide(of_torrent(description=HYBRID), views(older, engine("b", features=WITH_V2, alive=False)), 0) == Admit("a")
    taken = engine("b", features=WITH_V2, live=2)
    assert isinstance(decide(of_torrent(description=HYBRID), views(older, taken), 0), Wait)


def test_a_torrent_of_very_many_files_goes_to_an_engine_that_is_fit_for_it() -> None:
    many = Description("d", "x", 5, 101, v1="1" * 40)
    engines = views(engine("a", features=TORRENTS), engine("b", features=WITH_V2, live=1))
    assert decide(of_torrent(description=many), engines, 0) == Admit("b")
    assert decide(of_torrent(description=many, select=(1, 2)), engines, 0) == Admit("a")
    alone = decide(of_torrent(description=many), views(engine("a", features=TORRENTS)), 0)
    assert isinstance(alone, Wait)
    assert alone.text == "no engine can fetch torrents of more than 100 files"


def test_a_resumed_job_goes_back_to_the_engine_that_holds_its_bytes() -> None:
    job = queued(transfer=Transfer("t", "b", 1, "/w", 0.0))
    assert decide(job, views(engine("a"), engine("b", live=1)), 0) == Admit("b")


def test_a_new_attempt_may_go_to_another_engine() -> None:
    job = queued(transfer=Transfer("t", "b", 1, "/w", 0.0), attempt=2)
    assert decide(job, views(engine("a"), engine("b", live=2)), 0) == Admit("a")


def test_only_queued_jobs_are_asked_about() -> None:
    assert queued().state is State.QUEUED


def test_an_engine_that_failed_the_job_is_taken_only_when_no_other_answers() -> None:
    job = queued(avoid=("a",))
    assert decide(job, views(engine("a", capacity=9), engine("b", live=1)), 0) == Admit("b")
    assert decide(job, views(engine("a", capacity=9), engine("b", alive=False)), 0) == Admit("a")
    assert decide(replace(job, avoid=("a", "b")), views(engine("a", live=2), engine("b")), 0) == Admit("b")
    full = decide(job, views(engine("a"), engine("b", live=2)), 0)
    assert isinstance(full, Wait)
    assert full.text == "all 2 slots of b are taken"
