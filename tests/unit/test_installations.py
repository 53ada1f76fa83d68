"""Two installations, each with records and a Redis of its own, at one engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.machine import Machine
from worker.delivery.finish import finish
from worker.jobs.states import State
from worker.jobs.transfer import is_of, maker, own_id
from worker.settings import SettingsError, load


class Beside(Machine):
    """A machine that uses the engine of another."""

    def __init__(self, other: Machine, directory: Path, **settings: str) -> None:
        directory.mkdir()
        super().__init__(directory, **settings)
        self.engine, self.downloads = other.engine, other.downloads
        self.services = replace(self.services, engines={other.engine.name: other.engine})
        self.take_over()

    def complete(self, id: str) -> State:
        transfer = self.job(id).transfer
        assert transfer is not None
        self.engine.complete(self.engine.handle(transfer.id, transfer.attempt))
        self.tick()
        finish(self.services, 100)
        self._owner._leftovers._cleared_at = float("-inf")
        self.tick()
        return self.job(id).state


@pytest.mark.parametrize("names", [("one", "two"), ("", "two")])
def test_the_same_user_and_key_at_two_installations_are_two_downloads_of_which_neither_takes_the_other_away(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    first = Beside(Machine(tmp_path), tmp_path / "first", installation=names[0])
    second = Beside(first, tmp_path / "second", installation=names[1])
    here, there = first.ask(key="k"), second.ask(key="k")
    assert here == there, "a job is named by its user and key alone"
    for machine in (first, second, first, second):
        machine.seen_anew()
    assert len(first.engine.poll().items) == 2
    assert first.job(here).transfer != second.job(there).transfer
    assert first.complete(here) is State.DONE
    second.seen_anew()
    assert second.job(there).state is State.DOWNLOADING
    assert second.complete(there) is State.DONE
    assert first.engine.poll().items == {}


def test_what_was_begun_before_an_installation_had_a_name_is_ended_under_its_old_one(tmp_path: Path) -> None:
    machine = Beside(Machine(tmp_path), tmp_path / "own")
    id = machine.ask()
    machine.services = replace(machine.services, settings=load(data_dir=tmp_path, probe="never", installation="one"))
    machine.take_over()
    machine.seen_anew()
    assert machine.complete(id) is State.DONE
    assert machine.engine.poll().items == {}
    assert not list((machine.downloads / ".haul").glob("*"))


def test_a_transfer_tells_its_maker_and_its_installation() -> None:
    for handed in (0, 3):
        for name in ("", "one"):
            assert maker(own_id("a1", handed, name)) == "a1"
            assert [is_of(own_id("a1", handed, name), other) for other in ("", "one", "on")] == [name == "", name == "one", False]
    names = [own_id("a1", handed, name) for handed in range(3) for name in ("", "0", "1", "one")]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["One", "a-b", "a/b", "a" * 17])
def test_a_name_that_could_not_stand_in_that_of_a_directory_is_refused(name: str) -> None:
    with pytest.raises((SettingsError, ValidationError)):
        load(installation=name)
