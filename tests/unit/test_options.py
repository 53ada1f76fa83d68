"""What a command makes of its arguments: addresses as they are, `.torrent` files of this machine by their content."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from tests.torrents import pack
from worker.cli.get import _keys
from worker.cli.options import specs
from worker.jobs.errors import Rejected
from worker.jobs.requests import parse
from worker.jobs.torrents import TORRENT_BYTES_MAX

DOCUMENT = pack().document
MAGNET = f"magnet:?xt=urn:btih:{'1' * 40}&dn=x.torrent"


def test_a_torrent_file_is_sent_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.Torrent").write_bytes(DOCUMENT)
    sent = base64.b64encode(DOCUMENT).decode()
    assert specs([str(tmp_path / "x.Torrent")], None, user="u") == [{"torrent": sent, "user": "u"}]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert specs(["x.Torrent"], None) == specs(["~/x.Torrent"], None) == [{"torrent": sent}]


@pytest.mark.parametrize("url", ["https://host/x.torrent", "ftp://host/x.torrent", MAGNET, "host/file.iso", "nothing"])
def test_an_address_stays_as_it_is(url: str) -> None:
    assert specs([url], None) == [{"uri": url}]


def test_a_file_that_cannot_be_sent_says_why(tmp_path: Path) -> None:
    (tmp_path / "empty.torrent").touch()
    (tmp_path / "large.torrent").write_bytes(bytes(TORRENT_BYTES_MAX + 1))
    (tmp_path / "folder.torrent").mkdir()
    words = {"missing": "No such file", "empty": "is empty", "large": "is larger than", "folder": "directory"}
    for name, expected in words.items():
        with pytest.raises(Rejected, match=expected) as refused:
            specs([str(tmp_path / f"{name}.torrent")], None)
        assert (refused.value.field, bool(refused.value.fix)) == ("torrent", True)


def test_the_same_torrent_file_is_the_same_download_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a.torrent").write_bytes(DOCUMENT)
    (tmp_path / "b.torrent").write_bytes(DOCUMENT)
    one, two = (parse(spec, owner=True) for spec in specs([str(tmp_path / "a.torrent"), str(tmp_path / "b.torrent")], None, user="u"))
    assert next(_keys(one)) == next(_keys(two))
