"""A job that seeds to a real client."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.engines import newest_aria2c_program
from tests.e2e.stack import Stack, eventually, story
from tests.e2e.torrents.cases import DONE_S
from tests.e2e.torrents.doors import tree, upload
from tests.torrents import fetch, pack, web_seeded


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
