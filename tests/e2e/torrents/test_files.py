"""Torrents from every door to files in place, on each engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.stack import Stack, sha256, story
from tests.e2e.torrents.cases import CASES, DONE_S, HOSTILE, LAST, each
from tests.e2e.torrents.doors import Asked, check_in_place, tree, upload
from tests.origin import content
from tests.torrents import FILES, PIECE_BYTES, Pack, pack, web_seeded
from worker import pipeline
from worker.jobs.requests import parse


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


@each
def test_one_file_of_a_torrent_of_a_hundred_thousand_is_there_within_seconds(both: Stack, many: Pack, user: str, engine: str) -> None:
    made = replace(many, info={**many.info, "source": engine})
    both.origin.document(f"{made.infohash}/many/{LAST}", made.files[LAST])
    made = replace(made, web_seeds=(both.origin.url(f"with/rate=0/doc/{made.infohash}/"),))
    id = both.ask(None, user, torrent=upload(made), engine=engine, select="100000")

    check_in_place(both, Asked(id, made, (100_000,)))

    print(f"a torrent of 100,000 files on {engine}: {both.job(id).events[-1].at - both.job(id).created_at:.1f} s")


@pytest.fixture(scope="package")
def many() -> Pack:
    """A torrent of 100,000 files, the last of which begins with a piece."""
    small = {f"{n // 1000}/{n}.txt": b"x" for n in range(1, 99_999)}
    return pack({"first.bin": content(4 * PIECE_BYTES - len(small)), **small, LAST: content(70_000, 5)}, name="many")
