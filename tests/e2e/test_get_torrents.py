"""`haul get` with torrents, on a machine that has qBittorrent and on one that has not; each command is a real process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.engines import newest_aria2c_program, qbittorrent_program
from tests.e2e.haul import Haul, processes_of
from tests.e2e.stack import SERVICES
from tests.origin import Origin, content
from tests.torrents import FILES, Seeder, pack, web_seeded

pytestmark = pytest.mark.skipif(SERVICES, reason="about the embedded stack, which has SQLite and servers of its own")

SIZE = 300_000


@pytest.fixture(params=["aria2", "qbittorrent"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Haul, tuple[str, ...]]]:
    """A machine on which nothing ever ran, and the options that choose its engine: it has no qBittorrent, or that is asked for."""
    haul = Haul(tmp_path)
    if request.param == "aria2":
        haul.environment |= {"HAUL_QBITTORRENT": "off", "HAUL_ARIA2C": str(newest_aria2c_program())}
    else:
        haul.environment["PATH"] = os.pathsep.join([haul.environment["PATH"], str(qbittorrent_program().parent)])
    yield haul, () if request.param == "aria2" else ("--engine", "qbittorrent")
    assert not processes_of(tmp_path), "the test leaves processes"


def test_get_takes_a_torrent_file_and_a_magnet_link(machine: tuple[Haul, tuple[str, ...]], origin: Origin, tmp_path: Path) -> None:
    haul, engine = machine
    name = f"{len(engine)}"
    folder = web_seeded(origin, pack(name=f"folder {name}"))
    single = pack({"only": content(SIZE, 1)}, name=f"single {name}.bin", single=True, trackers=(origin.url("announce"),))
    (tmp_path / "my.torrent").write_bytes(folder.document)

    with Seeder(newest_aria2c_program(), tmp_path / "seeder", origin, single):
        result = haul.get(str(tmp_path / "my.torrent"), single.magnet(), *engine)

    assert result.returncode == 0, result.stderr + haul.log()
    assert result.stdout.splitlines() == [f"{haul.out}/{folder.name}  849.6 KiB", f"{haul.out}/{single.name}  293.0 KiB"]
    assert {path: (haul.out / folder.name / path).read_bytes() for path in FILES} == FILES
    assert (haul.out / single.name).read_bytes() == content(SIZE, 1)
    assert sorted(os.listdir(haul.out)) == sorted([folder.name, single.name])
    haul.leaves_nothing_running()


def test_get_takes_the_address_of_a_torrent_file_and_the_files_that_are_wanted(
    machine: tuple[Haul, tuple[str, ...]], origin: Origin
) -> None:
    haul, engine = machine
    made = web_seeded(origin, pack(name=f"wanted {len(engine)}"))
    url = origin.document(f"{made.name}.torrent", made.document)

    result = haul.get(url, "--select", "1,3", *engine)

    assert result.returncode == 0, result.stderr + haul.log()
    assert result.stdout == f"{haul.out}/{made.name}  361.3 KiB\n"
    found = {str(file.relative_to(haul.out / made.name)): file.read_bytes() for file in haul.out.rglob("*") if file.is_file()}
    assert found == {path: FILES[path] for path in ("a.bin", "sub/c.bin")}
    assert origin.requests[f"/doc/{made.name}.torrent"] == 1
    haul.leaves_nothing_running()


def test_what_is_no_torrent_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    haul = Haul(tmp_path)
    (tmp_path / "page.torrent").write_text("<html>please log in</html>")
    (tmp_path / "good.torrent").write_bytes(pack().document)

    for wrong, words in (
        ([str(tmp_path / "page.torrent")], "torrent: "),
        ([str(tmp_path / "nowhere.torrent")], "torrent: cannot read"),
        ([str(tmp_path / "good.torrent"), "--select", "4"], "select: there is no file 4"),
    ):
        result = haul.get(*wrong)
        assert (result.returncode, result.stdout) == (2, ""), result.stderr
        assert words in result.stderr
        assert not haul.data.exists(), "nothing is left behind"
