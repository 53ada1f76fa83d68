"""Jobs for torrents on each engine: all that take long are begun before the first test waits."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import Stack
from tests.e2e.torrents.cases import CASES, ENGINES, PATIENCE_S
from tests.e2e.torrents.doors import Asked, Doors, upload
from tests.e2e.torrents.seeding import seed
from tests.torrents import Seeder, pack, web_seeded


@pytest.fixture(scope="package")
def asked(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Asked]]:
    """Case and engine -> its job; all are asked for at once, behind a `.torrent` address that never answers."""
    origin, again = both.origin, secrets.token_hex(2)  # these tests may come in two parts, and the origin counts by name
    made = {(name, engine): case.made(origin, f"{name} {engine} {again}") for name, case in CASES.items() for engine in ENGINES}
    seeded = [made[name, engine] for name, engine in made if not CASES[name].web]
    with Seeder(newest_aria2c_program(), tmp_path_factory.mktemp("seeder"), origin, *seeded), Doors(both) as doors:
        silent = both.ask("hang/silent.torrent", "silent")
        yield {(n, e): Asked(doors.ask(CASES[n], made[n, e], e), made[n, e], CASES[n].select) for n, e in made}
        both.cancel_all([silent])


@pytest.fixture(scope="package", autouse=True)
def _all_begun(asked: object, seeded: object, dead: object, twice: object) -> None:
    """What takes long for reasons of its own is under way before the first test waits."""


@pytest.fixture(scope="package")
def seeded(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Jobs that seed until they gave away as much as they have; on both engines at once, for qBittorrent looks every ten seconds."""
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        yield {engine: pool.submit(seed, both, engine, tmp_path_factory.mktemp(f"leecher-{engine}")) for engine in ENGINES}


@pytest.fixture(scope="package")
def impatient(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on the same engines that gives up after five seconds."""
    servers = {name: engine.server for name, engine in both.engines.items()}
    with Stack(tmp_path_factory.mktemp("impatient"), engines=ENGINES, servers=servers) as running:
        running.work(HAUL_METADATA_TIMEOUT_S=PATIENCE_S, HAUL_STALL_TIMEOUT_S=PATIENCE_S)
        yield running


@pytest.fixture(scope="package")
def dead(impatient: Stack) -> dict[tuple[str, str], Asked]:
    """Cause and engine -> a job for a torrent that nobody has."""
    found = {}
    for engine in ENGINES:
        for cause in ("metadata", "stalled"):
            made = pack(name=f"{cause} {engine}", trackers=(impatient.origin.url("announce"),))
            source = {"uri": made.magnet()} if cause == "metadata" else {"uri": None, "torrent": upload(made)}
            found[cause, engine] = Asked(impatient.ask(user="dead", engine=engine, **source), made)
    return found


@pytest.fixture(scope="package")
def twice(both: Stack) -> dict[str, tuple[Asked, Asked]]:
    """Engine -> two jobs of two users for one torrent, which they do not share, for one of them selects its files."""
    found = {}
    for engine in ENGINES:
        made = web_seeded(both.origin, pack(name=f"twice {engine}"), rate=300_000)
        ids = both.ask_all(
            [{"user": f"twice-{n}", "engine": engine, "torrent": upload(made), "select": select} for n, select in enumerate(("", "1-3"))]
        )
        found[engine] = (Asked(ids[0], made), Asked(ids[1], made))
    return found
