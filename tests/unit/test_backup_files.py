"""Files beside the records, put back."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from worker.maintenance.backup.files import unpack


def a_tar(text: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo("data/aria2/aria2.session")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()


def test_a_restore_that_is_made_again_loses_nothing_of_what_was_there_before_the_first(tmp_path: Path) -> None:
    session = tmp_path / "data" / "aria2" / "aria2.session"
    session.parent.mkdir(parents=True)
    session.write_text("what was there")
    for _ in range(2):
        unpack(iter([a_tar("restored")]), tmp_path / "restored", tmp_path / "data", replace=True)
    assert session.read_text() == "restored"
    assert session.with_name("aria2.session.before-restore").read_text() == "what was there"
