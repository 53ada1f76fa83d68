"""Torrents from every door to files in place, on each engine: all cases are asked for at once, then each is looked at."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import requests

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import Stack, eventually, sha256, story
from tests.origin import Origin, content
from tests.torrents import FILES, PIECE_BYTES, Pack, Seeder, Version, fetch, pack, web_seeded
from worker import pipeline
from worker.api.server import serve
from worker.client import Client
from worker.jobs.errors import Rejected
from worker.jobs.requests import parse
from worker.jobs.states import Reason
from worker.jobs.torrents import read_torrent

ENGINES = ("aria2", "qbittorrent")
#: Beside everything else that runs; a torrent alone takes a second or two.
DONE_S = 60.0
#: Of the stack that gives up soon.
PATIENCE_S = "5"
HOSTILE: Mapping[str, bytes] = {
    "line\nbreak \x01 and \x7f.bin": content(40_000, 1),
    f"{'n' * 300}.bin": content(50_000, 2),
    f"{'ü' * 150}/{'é' * 140}.mkv": content(60_000, 3),
}

#: Of a hundred thousand.
LAST = "100/last.bin"

each = pytest.mark.parametrize("engine", ENGINES)


@dataclass(frozen=True)
class Case:
    """How a torrent is asked for.

    Attributes:
        door: the way in, of its document or its magnet link.
        select: which of its files, from 1, padding not counted.
        web: its content comes from a web server and from nobody else.
    """

    door: Literal["document", "api", "client", "magnet", "url", "flaky url"] = "document"
    version: Version = "v1"
    select: tuple[int, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=lambda: FILES)
    single: bool = False
    web: bool = False

    def made(self, origin: Origin, name: str) -> Pack:
        """A torrent nobody else has."""
        trackers = () if self.web else (origin.url("announce"),)
        made = pack(self.files, name=name, single=self.single, version=self.version, trackers=trackers)
        return web_seeded(origin, made) if self.web else made


CASES: Mapping[str, Case] = {
    "folder": Case(),
    "one-file": Case(files={"only": content(200_000, 9)}, single=True),
    "selected": Case(select=(1, 3)),
    "selected-one": Case(select=(2,)),
    "api": Case("api"),
    "client": Case("client", select=(1, 2)),
    "magnet": Case("magnet"),
    "magnet-selected": Case("magnet", select=(1, 3)),
    "url": Case("url"),
    "url-selected": Case("url", select=(2, 3)),
    "url-flaky": Case("flaky url"),
    "hybrid": Case(version="hybrid"),
    "hybrid-selected": Case(version="hybrid", select=(1, 3)),
    "hybrid-magnet": Case("magnet", version="hybrid"),
    "hybrid-magnet-selected": Case("magnet", version="hybrid", select=(2, 3)),
    "web": Case(web=True),
    "web-one-file": Case(files={"only": content(200_000, 10)}, single=True, web=True),
    "web-hybrid": Case(version="hybrid", web=True),
    "hostile": Case(files=HOSTILE),
}


@dataclass(frozen=True)
class Asked:
    """A job, and the torrent it is for."""

    id: str
    made: Pack
    select: tuple[int, ...] = ()


def upload(made: Pack) -> str:
    """The torrent as the field `torrent` takes it."""
    return base64.b64encode(made.document).decode()


def numbers(made: Pack, select: tuple[int, ...]) -> list[int]:
    """What the field `select` calls these files."""
    files = read_torrent(made.document).files
    return [files[place - 1].number for place in select]


def check_in_place(stack: Stack, asked: Asked) -> Path:
    """The job is done with the selected files, each with its bytes, under their names, and nothing is left elsewhere."""
    job = stack.until(asked.id, "done", timeout_s=DONE_S)
    assert job.result is not None
    wanted = {name: body for n, (name, body) in enumerate(asked.made.files.items(), 1) if not asked.select or n in asked.select}
    path = Path(job.result.path)
    assert path.parent == stack.downloads / job.id
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    if len(wanted) == 1:
        [(name, body)] = wanted.items()
        assert path.name == (asked.made.name if asked.made.single else Path(name).name)
        assert path.read_bytes() == body
    else:
        assert path.name == asked.made.name
        assert tree(path) == wanted
    assert job.result.size == sum(map(len, wanted.values()))
    stack.check_gone(job)
    return path


def tree(directory: Path) -> dict[str, bytes]:
    """Path below the directory -> content."""
    return {str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()}


class Doors:
    """Every way to ask a stack for a torrent."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._api = serve(stack.services, host="127.0.0.1", port=0)
        self._client = Client(stack.redis.url)

    def __enter__(self) -> Doors:
        self._api.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._api.stop()

    def ask(self, case: Case, made: Pack, engine: str | None) -> str:
        """The id of the new job."""
        spec: dict[str, Any] = {"user": f"torrents-{engine}", "engine": engine}
        if case.select:
            spec["select"] = numbers(made, case.select)
        if case.door == "api":
            answer = requests.post(f"{self._api.url}/v1/jobs", json={**spec, "torrent": upload(made)}, timeout=20)
            assert answer.status_code == 201, answer.text
            return str(answer.json()["id"])
        if case.door == "client":
            return self._client.enqueue(torrent=made.document, **spec).id
        if case.door == "document":
            return self._stack.ask(None, torrent=upload(made), **spec)
        if case.door == "magnet":
            return self._stack.ask(made.magnet(), **spec)
        url = self._stack.origin.document(f"{made.name}.torrent", made.document)
        return self._stack.ask(url.replace("/doc/", "/flaky/doc/") + "?fails=2" if case.door == "flaky url" else url, **spec)


@pytest.fixture(scope="module")
def asked(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[tuple[str, str], Asked]]:
    """Case and engine -> its job; all are asked for at once, behind a `.torrent` address that never answers."""
    origin, again = both.origin, secrets.token_hex(2)  # this module's tests may come in two parts, and the origin counts by name
    made = {(name, engine): case.made(origin, f"{name} {engine} {again}") for name, case in CASES.items() for engine in ENGINES}
    seeded = [made[name, engine] for name, engine in made if not CASES[name].web]
    with Seeder(newest_aria2c_program(), tmp_path_factory.mktemp("seeder"), origin, *seeded), Doors(both) as doors:
        silent = both.ask("hang/silent.torrent", "silent")
        yield {(n, e): Asked(doors.ask(CASES[n], made[n, e], e), made[n, e], CASES[n].select) for n, e in made}
        both.cancel_all([silent])


@pytest.fixture(scope="module", autouse=True)
def _all_begun(asked: object, seeded: object, dead: object, twice: object) -> None:
    """What takes long for reasons of its own is under way before the first test waits."""


@each
@pytest.mark.parametrize("case", [name for name in CASES if name != "hostile"])
def test_the_files_are_in_place_with_their_bytes_and_their_names(
    both: Stack, asked: dict[tuple[str, str], Asked], case: str, engine: str
) -> None:
    check_in_place(both, asked[case, engine])

    job = both.job(asked[case, engine].id)
    assert job.attempt == 1, story(job)
    assert both.told(job.id) == ["job.queued", "job.started", "job.completed"]


@each
def test_names_that_no_disk_takes_are_changed_and_no_file_is_lost(both: Stack, asked: dict[tuple[str, str], Asked], engine: str) -> None:
    job = both.until(asked["hostile", engine].id, "done", timeout_s=DONE_S)

    assert job.result is not None
    found = tree(Path(job.result.path))
    assert sorted(found.values()) == sorted(HOSTILE.values())
    parts = {part for path in found for part in Path(path).parts}
    assert all(len(part.encode()) <= 255 and part.isprintable() for part in parts), parts
    assert {Path(path).suffix for path in found} == {".bin", ".mkv"}
    both.check_gone(job)


@each
@pytest.mark.parametrize(
    ("case", "path", "times"), [("url", "/doc/{}", 1), ("url-selected", "/doc/{}", 1), ("url-flaky", "/flaky/doc/{}", 3)]
)
def test_a_torrent_file_on_the_web_is_fetched_by_us_and_by_no_engine(
    both: Stack, asked: dict[tuple[str, str], Asked], case: str, path: str, times: int, engine: str
) -> None:
    made = asked[case, engine].made
    job = both.until(asked[case, engine].id, "done", timeout_s=DONE_S)

    assert both.origin.requests[path.format(f"{made.name}.torrent")] == times
    assert job.description is not None
    assert (job.description.v1, job.description.name, job.description.files) == (made.v1, made.name, len(made.files))


# ---- which engine ------------------------------------------------------------------------------------------------


def test_a_torrent_of_the_second_version_goes_to_the_engine_that_speaks_it(both: Stack, user: str) -> None:
    one, other = (web_seeded(both.origin, pack(name=f"{user} {n}", version="v2")) for n in range(2))
    by_url = both.ask(both.origin.document(f"{user}.torrent", other.document), user)
    by_upload = both.ask(None, user, torrent=upload(one))

    for asked in (Asked(by_upload, one), Asked(by_url, other)):
        check_in_place(both, asked)
        transfer = both.job(asked.id).transfer
        assert transfer is not None
        assert transfer.engine == "qbittorrent"


def test_a_torrent_of_the_second_version_for_an_engine_that_does_not_speak_it_is_refused_in_words(both: Stack, user: str) -> None:
    made = pack(name=user, version="v2")

    for source in ({"torrent": upload(made)}, {"uri": made.magnet()}):
        [answer] = pipeline.accept(both.services, [parse({"user": user, "engine": "aria2", **source})])
        assert isinstance(answer, Rejected)
        assert "aria2" in str(answer)
        assert answer.fix

    url = both.origin.document(f"{user}.torrent", made.document)
    job = both.until(both.ask(url, user, engine="aria2"), "failed")
    assert "aria2" in (job.message or "")


# ---- seeding -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeded(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[str]]]:
    """Jobs that seed until they gave away as much as they have; on both engines at once, for qBittorrent looks every ten seconds."""
    with ThreadPoolExecutor(len(ENGINES)) as pool:
        yield {engine: pool.submit(seed, both, engine, tmp_path_factory.mktemp(f"leecher-{engine}")) for engine in ENGINES}


def seed(stack: Stack, engine: str, directory: Path) -> str:
    """A job that is done, seeds to a real client, and is forgotten by its engine; its id."""
    made = web_seeded(stack.origin, pack(name=f"seeded {engine}", trackers=(stack.origin.url("announce"),)))
    id = stack.ask(None, "seeding", torrent=upload(made), engine=engine, seed_ratio=1.0, category="given away")
    done = stack.until(id, "done", timeout_s=DONE_S)
    assert done.seeding, story(done)
    assert done.result is not None
    assert tree(Path(done.result.path)) == made.files
    assert stack.engines[engine].knows(stack.gid(done))
    assert stack.work_directory(id).exists()
    if engine == "qbittorrent":
        assert {row["category"] for row in stack.qbittorrent.rows(tag=stack.gid(done))} == {"given away"}

    complete = fetch(newest_aria2c_program(), directory / "one", made, timeout_s=DONE_S)
    assert complete or not stack.job(id).seeding, "the leecher gets what it wants while it is seeded"
    more = (fetch(newest_aria2c_program(), directory / str(n), made, timeout_s=10) for n in range(3))
    while stack.job(id).seeding and next(more, None) is not None:
        pass
    eventually(lambda: not stack.job(id).seeding, "it has seeded enough", DONE_S, lambda: story(stack.job(id)))
    return id


@each
def test_a_torrent_is_done_while_it_seeds_and_forgotten_at_the_ratio(both: Stack, seeded: dict[str, Future[str]], engine: str) -> None:
    id = seeded[engine].result(2 * DONE_S)

    job = both.job(id)
    assert (job.state, job.seeding) == ("done", False)
    both.check_gone(job)
    assert job.result is not None
    assert tree(Path(job.result.path)) == FILES
    assert both.told(id) == ["job.queued", "job.started", "job.completed"]


# ---- torrents that never come ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def impatient(both: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack on the same engines that gives up after five seconds."""
    servers = {name: engine.server for name, engine in both.engines.items()}
    with Stack(tmp_path_factory.mktemp("impatient"), engines=ENGINES, servers=servers) as running:
        running.work(HAUL_METADATA_TIMEOUT_S=PATIENCE_S, HAUL_STALL_TIMEOUT_S=PATIENCE_S)
        yield running


@pytest.fixture(scope="module")
def dead(impatient: Stack) -> dict[tuple[str, str], Asked]:
    """Cause and engine -> a job for a torrent that nobody has."""
    found = {}
    for engine in ENGINES:
        for cause in ("metadata", "stalled"):
            made = pack(name=f"{cause} {engine}", trackers=(impatient.origin.url("announce"),))
            source = {"uri": made.magnet()} if cause == "metadata" else {"uri": None, "torrent": upload(made)}
            found[cause, engine] = Asked(impatient.ask(user="dead", engine=engine, **source), made)
    return found


@each
@pytest.mark.parametrize(("cause", "attempts"), [("metadata", 3), ("stalled", 3)])
def test_a_torrent_that_nobody_has_is_tried_again_and_given_up_with_its_cause(
    impatient: Stack, dead: dict[tuple[str, str], Asked], cause: str, attempts: int, engine: str
) -> None:
    job = impatient.until(dead[cause, engine].id, "failed", timeout_s=DONE_S)

    assert (job.cause, job.attempt) == (cause, attempts), story(job)
    assert f"{PATIENCE_S} s" in pipeline.why(impatient.services, job.id).text
    handles = [impatient.services.engines[engine].handle(job.id, n + 1) for n in range(attempts)]
    eventually(lambda: not any(map(impatient.engines[engine].knows, handles)), "the engine forgets it")
    assert not (impatient.downloads / job.id).exists()


@each
def test_a_retry_of_a_torrent_that_was_given_up_finds_who_has_it_now(
    impatient: Stack, dead: dict[tuple[str, str], Asked], tmp_path: Path, engine: str
) -> None:
    asked = dead["stalled", engine]
    before = impatient.until(asked.id, "failed", timeout_s=DONE_S)

    with Seeder(newest_aria2c_program(), tmp_path, impatient.origin, asked.made):
        impatient.act(asked.id, "retry")
        check_in_place(impatient, asked)

    assert impatient.job(asked.id).attempt > before.attempt


# ---- torrents that are there already -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
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


@each
def test_a_torrent_that_the_engine_has_for_another_job_waits_for_it(
    both: Stack, twice: dict[str, tuple[Asked, Asked]], engine: str
) -> None:
    for asked in twice[engine]:
        check_in_place(both, asked)

    jobs = [both.job(asked.id) for asked in twice[engine]]
    waited = [job for job in jobs if any("for another job" in event.text for event in job.events)]
    assert len(waited) == 1, [story(job) for job in jobs]
    assert [job.attempt for job in jobs] == [1, 1]


def test_a_waiting_duplicate_says_so_and_can_be_paused_resumed_and_cancelled(both: Stack, user: str) -> None:
    made = web_seeded(both.origin, pack({"large.bin": content(3_000_000, 1)}, name=user), rate=100_000)
    for engine in ENGINES:
        first = both.ask(None, user, torrent=upload(made), engine=engine)
        both.until(first, "downloading")
        second = both.ask(None, f"{user}-2", torrent=upload(made), engine=engine, select="1")
        eventually(lambda: both.job(second).reason is Reason.DUPLICATE, "it waits", seen=lambda: story(both.job(second)))  # noqa: B023
        assert "another job" in pipeline.why(both.services, second).text
        assert both.act(second, "pause").state == "paused"
        assert both.act(second, "resume").state == "queued"
        both.act(second, "cancel")
        both.until(second, "cancelled")
        assert both.job(first).state == "downloading"
        both.cancel_all([first])
        both.check_gone(both.job(second))


@each
def test_a_torrent_that_was_added_by_hand_is_left_alone_and_the_user_is_told(both: Stack, user: str, tmp_path: Path, engine: str) -> None:
    made = web_seeded(both.origin, pack(name=user))
    with by_hand(both, engine, replace(made, web_seeds=()), tmp_path):
        id = both.ask(None, user, torrent=upload(made), engine=engine)
        if engine == "aria2":  # which does not say whose it is: the job waits for it as for another job's
            eventually(lambda: both.job(id).reason is Reason.DUPLICATE, "it waits", seen=lambda: story(both.job(id)))
            both.act(id, "cancel")
            return
        assert "by hand" in (both.until(id, "failed").message or "")

    both.act(id, "retry")
    check_in_place(both, Asked(id, made))


def by_hand(stack: Stack, engine: str, made: Pack, directory: Path) -> ExitStack:
    """The torrent is at the engine, in another directory; removed at the end of the block."""
    held = ExitStack()
    if engine == "aria2":
        gid = stack.rpc("addTorrent", base64.b64encode(made.document).decode(), [], {"dir": str(directory)})
        eventually(lambda: stack.rpc("tellStatus", gid, ["status"]) == {"status": "active"}, "it is there")
        held.callback(stack.rpc, "removeDownloadResult", gid)
        held.callback(stack.rpc, "forceRemove", gid)
    else:
        stack.qbittorrent.ask("torrents/add", {"torrents": ("x.torrent", made.document)}, savepath=str(directory), paused="true")
        eventually(lambda: any(row["hash"] == made.v1 for row in stack.qbittorrent.rows()), "it is there")
        held.callback(stack.qbittorrent.ask, "torrents/delete", hashes=str(made.v1), deleteFiles="true")
    return held


# ---- where the files go ------------------------------------------------------------------------------------------


@each
def test_a_name_that_is_taken_is_left_alone_and_the_torrent_gets_another(both: Stack, user: str, tmp_path: Path, engine: str) -> None:
    folder, single = pack(name="taken"), pack({"only": content(80_000, 4)}, name="taken.bin", single=True)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "a.bin").write_text("mine")
    (tmp_path / "taken.bin").write_text("mine, too")
    fields = {"user": user, "engine": engine, "out": str(tmp_path)}
    made = [web_seeded(both.origin, replace(one, info={**one.info, "source": user})) for one in (folder, single)]
    answers = pipeline.accept(both.services, [parse({**fields, "torrent": upload(one)}, owner=True) for one in made])

    paths = []
    for answer in answers:
        assert isinstance(answer, pipeline.Accepted), answer
        result = both.until(answer.job.id, "done", timeout_s=DONE_S).result
        assert result is not None
        paths.append(Path(result.path))
    assert paths == [tmp_path / "taken (1)", tmp_path / "taken (1).bin"]
    assert tree(paths[0]) == FILES
    assert paths[1].read_bytes() == content(80_000, 4)
    assert (tmp_path / "taken" / "a.bin").read_text() == "mine"
    assert (tmp_path / "taken.bin").read_text() == "mine, too"
    assert sha256(tmp_path / "taken (1)" / "a.bin") == sha256(paths[0] / "a.bin")


# ---- bad input that only shows later -----------------------------------------------------------------------------


@each
@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<!DOCTYPE html><html><body>please log in</body></html>", "torrent"),
        (bytes(10_000_001), "10000000 bytes"),
        (pack().document[:500], "torrent"),
    ],
    ids=["a web page", "too large", "cut"],
)
def test_what_a_torrent_address_gives_that_is_no_torrent_is_told_the_user(
    both: Stack, user: str, document: bytes, words: str, engine: str
) -> None:
    url = both.origin.document(f"{user}.torrent", document)
    job = both.until(both.ask(url, user, engine=engine), "failed")

    assert (job.cause, job.attempt) == ("source", 1), story(job)
    assert words in (job.message or "")
    assert both.origin.requests[f"/doc/{user}.torrent"] == 1
    assert both.told(job.id) == ["job.queued", "job.failed"]


@each
def test_a_selection_outside_the_torrent_that_is_found_later_is_told_the_user(
    both: Stack, asked: dict[tuple[str, str], Asked], user: str, tmp_path: Path, engine: str
) -> None:
    made = pack(name=user, trackers=(both.origin.url("announce"),))
    url = both.origin.document(f"{user}.torrent", made.document)
    by_url = both.until(both.ask(url, user, engine=engine, select="1,9"), "failed")
    assert (by_url.cause, by_url.attempt) == ("source", 1)
    assert "no file 9" in (by_url.message or "")

    with Seeder(newest_aria2c_program(), tmp_path, both.origin, made):
        by_magnet = both.until(both.ask(made.magnet(), user, engine=engine, select="1,9"), "failed")
    assert (by_magnet.cause, by_magnet.attempt) == ("source", 1), story(by_magnet)
    assert "selected" in (by_magnet.message or "")


@each
def test_one_file_of_a_torrent_of_a_hundred_thousand_is_there_within_seconds(both: Stack, many: Pack, user: str, engine: str) -> None:
    made = replace(many, info={**many.info, "source": engine})
    both.origin.document(f"{made.infohash}/many/{LAST}", made.files[LAST])
    made = replace(made, web_seeds=(both.origin.url(f"with/rate=0/doc/{made.infohash}/"),))
    id = both.ask(None, user, torrent=upload(made), engine=engine, select="100000")

    check_in_place(both, Asked(id, made, (100_000,)))

    print(f"a torrent of 100,000 files on {engine}: {both.job(id).events[-1].at - both.job(id).created_at:.1f} s")


@pytest.fixture(scope="module")
def many() -> Pack:
    """A torrent of 100,000 files, the last of which begins with a piece."""
    small = {f"{n // 1000}/{n}.txt": b"x" for n in range(1, 99_999)}
    return pack({"first.bin": content(4 * PIECE_BYTES - len(small)), **small, LAST: content(70_000, 5)}, name="many")
