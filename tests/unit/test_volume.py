"""The volume of an engine, as a process sees it or does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from worker.engines.volume import prepared, unusable
from worker.jobs.directories import volume_of, work_directory
from worker.jobs.states import Cause


def test_the_volume_of_a_work_directory_is_the_one_it_was_made_on() -> None:
    assert volume_of(work_directory("/srv/downloads", "transfer-2", "aria2")) == "/srv/downloads"


def test_a_volume_that_is_not_there_is_not_made_and_the_words_tell_what_to_do(tmp_path: Path) -> None:
    volume = tmp_path / "not mounted"
    fault = prepared(work_directory(str(volume), "t", "a"))
    assert fault is not None
    assert (fault.cause, fault.passing, fault.elsewhere) == (Cause.ENGINE, True, True)
    assert f"{volume} is not there: mount the engine's volume at the same path" in fault.detail
    assert not volume.exists()
    volume.mkdir()
    assert prepared(work_directory(str(volume), "t", "a")) is None
    assert (volume / ".haul" / "t" / "a").is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_volume_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert "cannot be read and written to by user" in str(unusable(str(tmp_path)))


def test_a_volume_that_can_be_used_has_no_fault(tmp_path: Path) -> None:
    assert unusable(str(tmp_path)) is None
    assert "is not there" in str(unusable(str(tmp_path / "x")))
