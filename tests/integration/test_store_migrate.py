"""`haul store migrate`: everything of a grown installation arrives, whatever happens on the way, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.contract.store_jobs import NOW, a_job, admitted, described, until
from tests.integration.ended import Ended
from tests.integration.grown import TORRENTS, everything, grow
from worker import cli
from worker.cli.lock import held
from worker.failpoints import Failpoints
from worker.jobs.model import Job
from worker.jobs.states import State
from worker.ports import Change, Drain, Inserted, Run
from worker.store import open_store
from worker.store.migrate import NotCopied, compare, copy
from worker.store.sqlite.store import SqliteStore

TIMEOUT_S = 60.0
#: Jobs, and runs, of the installation; most tests are content with the small one.
LARGE, SMALL = 1_280, 160


Haul = Callable[..., Ended]


def grown(directory: Path, size: int) -> Path:
    path = directory / "haul.db"
    with closing(open_store(f"sqlite:///{path}")) as store:
        grow(store, size)
    return path


@pytest.fixture(scope="module")
def grown_large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that is copied before each use."""
    return grown(tmp_path_factory.mktemp("large"), LARGE)


@pytest.fixture(scope="module")
def grown_small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `grown_large`."""
    return grown(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture
def large(grown_large: Path, tmp_path: Path) -> str:
    """A grown installation in its data directory."""
    return placed(grown_large, tmp_path)


@pytest.fixture
def source(grown_small: Path, tmp_path: Path) -> str:
    """As `large`, and smaller."""
    return placed(grown_small, tmp_path)


def placed(file: Path, directory: Path) -> str:
    (directory / "data").mkdir()
    shutil.copy(file, directory / "data")
    return f"sqlite:///{directory / 'data' / 'haul.db'}"


@pytest.fixture
def target(tmp_path: Path) -> str:
    """A store that is not there yet."""
    return f"sqlite:///{tmp_path / 'other' / 'haul.db'}"


@pytest.fixture(params=["sqlite", "mongodb"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which store is copied to."""
    return str(request.param)


@pytest.fixture
def any_target(kind: str, request: pytest.FixtureRequest, target: str) -> str:
    """As `target`, of each kind."""
    return target if kind == "sqlite" else str(request.getfixturevalue("mongo_url"))


@pytest.fixture
def haul(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Haul]:
    """Run `haul store migrate` in this process."""
    monkeypatch.setenv("HAUL_DATA_DIR", str(tmp_path / "data"))
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Ended:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["haul", "store", "migrate", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ended(int(ended.value.code or 0), out, err)

    yield run
    signal.signal(signal.SIGTERM, before)


def started_haul(tmp_path: Path, *arguments: str, failpoint: str) -> subprocess.Popen[str]:
    """`haul store migrate` as a process of its own."""
    environment = {**os.environ, "HAUL_DATA_DIR": str(tmp_path / "data"), "HAUL_FAILPOINT": failpoint}
    command = [sys.executable, "-m", "worker.cli", "store", "migrate", *arguments]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def everything_in(url: str) -> tuple[list[Job], list[Run], dict[str, bytes]]:
    with closing(open_store(url)) as store:
        return everything(store)


def nothing(doing: str, done: int, total: int) -> None:
    """Between batches of a test that watches no progress."""


def test_all_of_a_grown_installation_arrives_as_it_was_and_in_its_order(haul: Haul, large: str, any_target: str) -> None:
    before = everything_in(large)
    shown = haul(large, any_target, "--json").json
    assert everything_in(any_target) == before
    assert everything_in(large) == before, "the source keeps all it has"
    assert [len(part) for part in before] == [LARGE, LARGE, TORRENTS]
    assert shown["jobs"] == {state: LARGE // len(State) for state in State}
    assert shown["copied"] == {"jobs": LARGE, "torrents": TORRENTS, "runs": LARGE}
    assert (shown["torrents"], shown["runs"], shown["dry_run"]) == (TORRENTS, LARGE, False)


def test_the_steps_find_the_same_work_in_the_copy(haul: Haul, source: str, any_target: str) -> None:
    assert haul(source, any_target).code == 0
    with closing(open_store(source)) as one, closing(open_store(any_target)) as other:
        for store in (one, other):
            assert store.undescribed(1)
            assert store.unsent(1)
        for look in (
            lambda store: store.undescribed(SMALL),
            lambda store: sorted(store.unsent(SMALL), key=lambda job: job.id),
            lambda store: sorted(store.at_engine("qbittorrent"), key=lambda job: job.id),
            lambda store: sorted(store.needing_owner("aria2", SMALL), key=lambda job: job.id),
            lambda store: store.engine_counts(),
            lambda store: store.counts(),
        ):
            assert look(one) == look(other)


def test_the_copy_of_a_copy_has_the_same_digest_and_a_second_run_copies_nothing(haul: Haul, source: str, target: str) -> None:
    first = haul(source, target, "--json").json
    again = haul(source, target, "--json").json
    third = haul(target, f"{target}.copy", "--json").json
    assert again["copied"] == {"jobs": 0, "torrents": 0, "runs": 0}
    assert first["sha256"] == again["sha256"] == third["sha256"]


def test_people_are_told_counts_digest_and_what_to_set(haul: Haul, source: str, target: str) -> None:
    ended = haul(source, target)
    assert f"cancelled    {SMALL // len(State)}\n" in ended.out
    assert f"equal: {SMALL} jobs, {TORRENTS} torrents and {SMALL} runs in both, SHA-256 " in ended.out
    assert ended.out.endswith(f"now set HAUL_STORE_URL={target}\n")
    assert f"haul: comparing: 0 of {SMALL}" in ended.err


# ---- broken off --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "failpoint"),
    [
        ("sqlite", "migrate.torrent:kill:3"),
        ("sqlite", "migrate.jobs:kill:4"),
        ("sqlite", "migrate.runs:kill:2"),
        ("mongodb", "migrate.jobs:kill:2"),
    ],
)
def test_a_killed_copy_is_a_part_of_the_source_and_the_next_run_makes_it_whole(
    haul: Haul, large: str, any_target: str, tmp_path: Path, failpoint: str
) -> None:
    with started_haul(tmp_path, large, any_target, failpoint=failpoint) as process:
        process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == -signal.SIGKILL
    whole, part = everything_in(large), everything_in(any_target)
    assert part != whole
    jobs, runs, torrents = part
    assert whole[0][LARGE - len(jobs) :] == jobs, "the oldest come first"
    assert whole[1][LARGE - len(runs) :] == runs
    assert {job.description.document for job in jobs if job.description} == set(torrents), "no job is there before its torrent"
    again = haul(large, any_target, "--json").json
    assert again["copied"]["jobs"] == LARGE - len(jobs)
    assert again["copied"]["runs"] == LARGE - len(runs)
    assert everything_in(any_target) == whole


def test_an_interrupted_copy_says_how_to_go_on_and_keeps_others_out_until_then(haul: Haul, large: str, target: str, tmp_path: Path) -> None:
    with started_haul(tmp_path, large, target, failpoint="migrate.jobs:hang:2") as process:
        with closing(open_store(target)) as store:
            until(lambda: sum(store.counts().values()) == 400, TIMEOUT_S)
        second = haul(large, target)
        assert (second.code, second.out) == (2, "")
        assert f"process {process.pid} runs the stack" in second.err
        for url in (large, target):
            with closing(open_store(url)) as store:
                leases = ("admit", "engine:aria2", "engine:qbittorrent")
                assert [store.acquire_lease(name, "a supervisor", 1) for name in leases] == [None] * 3
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert "stopped (copying: 200 of 1280); what was copied stays, and the same command goes on\n" in err
    with closing(open_store(large)) as store:
        assert store.acquire_lease("engine:aria2", "a supervisor", 0.0) is not None, "the leases were released"
    assert haul(large, target, "--json").json["copied"] == {"jobs": LARGE - 400, "torrents": 0, "runs": LARGE}
    assert everything_in(target) == everything_in(large)


# ---- targets that are something else -----------------------------------------------------------------------------


def recorded(url: str, jobs: Sequence[Job] = (), runs: Sequence[Run] = ()) -> tuple[list[Job], list[Run], dict[str, bytes]]:
    """Put these into a store; all it has then."""
    with closing(open_store(url)) as store:
        store.insert(jobs)
        store.keep_runs(runs)
        return everything(store)


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


def test_limits_set_at_run_time_go_along_and_others_are_not_overwritten(haul: Haul, source: str, any_target: str) -> None:
    mine = {"tiers/rate/free": 2.5, "users/running/ü/x": None}
    with closing(open_store(source)) as store:
        store.set_limits(mine)
    assert haul(source, any_target).code == 0
    with closing(open_store(any_target)) as store:
        assert store.limits() == mine
        store.set_limits({"tiers/rate/free": 3})
    ended = haul(source, any_target)
    assert ended.code == 1
    assert "limit tiers/rate/free" in ended.err
    with closing(open_store(any_target)) as store:
        assert store.limits() == {**mine, "tiers/rate/free": 3}


def test_engines_that_are_drained_stay_so_in_the_copy_and_are_not_overwritten(haul: Haul, source: str, any_target: str) -> None:
    mine = {"aria2": Drain(move=True, since=NOW), "gone": Drain(since=NOW)}
    with closing(open_store(source)) as store:
        for engine, drain in mine.items():
            store.drain(engine, drain)
    assert haul(source, any_target).code == 0
    with closing(open_store(any_target)) as store:
        assert store.drains() == mine
        store.drain("aria2", Drain())
    ended = haul(source, any_target)
    assert ended.code == 1
    assert "drain aria2" in ended.err


def test_what_does_not_come_back_as_it_was_given_ends_the_copy(source: str, tmp_path: Path) -> None:
    class Forgetful(SqliteStore):
        def insert(self, jobs: Sequence[Job]) -> list[Inserted]:
            return super().insert([replace(job, sent=0) for job in jobs])

    words = r"these did not arrive as they are in the source: job \w+, .* and \d+ more"
    with closing(open_store(source)) as one, closing(Forgetful(tmp_path / "forgetful.db")) as other, pytest.raises(NotCopied, match=words):
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
        with other._connections.writing() as connection:
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


# ---- stores in use -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_store_whose_stack_runs_is_refused(haul: Haul, source: str, target: str, side: str) -> None:
    directory = Path({"source": source, "target": target}[side].removeprefix("sqlite:///")).parent
    with held(directory):
        ended = haul(source, target)
    assert ended.code == 2
    assert f"process {os.getpid()} runs the stack of {directory}" in ended.err
    assert haul(source, target).code == 0


@pytest.mark.parametrize("lease", ["admit", "engine:aria2", "engine:named-by-a-record"])
@pytest.mark.parametrize("side", ["from", "to"])
def test_a_store_that_somebody_works_on_is_refused(haul: Haul, source: str, target: str, side: str, lease: str) -> None:
    recorded(source, [admitted(a_job("there"), "named-by-a-record")])
    with closing(open_store(source if side == "from" else target)) as store:
        mine = store.acquire_lease(lease, "a supervisor", 60)
        assert mine is not None
        ended = haul(source, target)
        assert ended.code == 2
        assert f"haul: {side}: somebody works on this store and holds its lease {lease!r}" in ended.err
        assert everything_in(target) == ([], [], {})
        store.release_lease(mine)
    assert haul(source, target).code == 0


def test_a_lease_that_is_taken_over_meanwhile_ends_the_copy(haul: Haul, source: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.supervision.lease.LEASE_RENEW_S", -1.0)
    keep = SqliteStore.keep_torrent

    def take_over(store: SqliteStore, document: bytes) -> str:
        with store._connections.writing() as connection:
            connection.execute("UPDATE leases SET owner = 'a supervisor', token = token + 1 WHERE name = 'admit'")
        return keep(store, document)

    monkeypatch.setattr(SqliteStore, "keep_torrent", take_over)
    ended = haul(source, target)
    assert ended.code == 1
    assert "to: somebody took over the lease 'admit' of this store: stop Haul on it, and begin again" in ended.err


# ---- what it is called with --------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_copied_and_makes_nothing(haul: Haul, source: str, target: str, tmp_path: Path) -> None:
    shown = haul(source, target, "--dry-run", "--json").json
    assert shown["to_copy"] == {"jobs": SMALL, "torrents": TORRENTS, "runs": SMALL}
    assert shown["dry_run"] is True
    assert not (tmp_path / "other").exists()
    part = everything_in(source)
    recorded(target, part[0][:-11:-1])
    ended = haul(source, target, "--dry-run")
    assert ended.code == 0
    assert f"to copy: {SMALL - 10} jobs, {TORRENTS} torrents and {SMALL} runs; 10 jobs are there already\n" in ended.out
    assert len(everything_in(target)[0]) == 10


def test_without_addresses_this_machines_file_goes_where_the_settings_point(
    haul: Haul, source: str, target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(f"{target}\n")
    monkeypatch.setenv("HAUL_STORE_URL_FILE", str(tmp_path / "url"))
    assert haul().out.endswith("now set HAUL_STORE_URL as it is\n")
    assert everything_in(target) == everything_in(source)


def test_an_address_is_read_from_a_file(haul: Haul, source: str, target: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(f"{target}\n")
    assert haul(source, f"@{tmp_path / 'url'}").out.endswith(f"now set HAUL_STORE_URL_FILE={tmp_path / 'url'}\n")
    assert everything_in(target) == everything_in(source)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sqlite:////no/such/haul.db", "sqlite:///{}/x.db"), "from: there is no store at /no/such/haul.db"),
        (("sqlite:///{}/data/haul.db",), "to: there is no store to copy to (name it, or set HAUL_STORE_URL)"),
        (("sqlite:///{}/data/haul.db", "sqlite:///{}/data/haul.db"), "to: is the store to copy from"),
        (("sqlite:///{}/data/haul.db", "sqlite:///{}/other/../data/haul.db"), "to: is the store to copy from"),
        (("@/no/such/file", "sqlite:///{}/x.db"), "from: cannot read /no/such/file: No such file or directory"),
        (("sqlite:///{}/data/haul.db", "postgresql://u:hunter2@host/haul"), "to: postgresql: is not the address of a store"),
        (("sqlite:///{}/data/haul.db", "hunter2"), "to: the value is not the address of a store"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_addresses_that_cannot_be_are_refused_without_their_secrets(
    haul: Haul, source: str, tmp_path: Path, arguments: Sequence[str], words: str, options: Sequence[str]
) -> None:
    ended = haul(*(argument.format(tmp_path) for argument in arguments), *options)
    assert (ended.code, ended.out) == (2, "")
    assert words in (json.loads(ended.err)["detail"] if options else ended.err)
    assert "hunter2" not in ended.err


def test_a_bar_is_shown_on_a_terminal(source: str, target: str, tmp_path: Path) -> None:
    reader, writer = os.openpty()
    environment = {**os.environ, "HAUL_DATA_DIR": str(tmp_path / "data"), "TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "worker.cli", "store", "migrate", source, target]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=writer) as process:
        os.close(writer)
        seen = b""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                seen += os.read(reader, 4096)
            except OSError:  # the other end is closed
                break
    os.close(reader)
    assert process.returncode == 0
    assert f"{TORRENTS} of {TORRENTS}".encode() in seen
    assert "━".encode() in seen
