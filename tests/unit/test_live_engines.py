"""A file of engines that changes while a process runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.tidy.sources import ROOT
from worker.engines.file import Defaults, check_file, parse
from worker.engines.live import KEPT_S, LOOK_EVERY_S, LiveEngines
from worker.jobs.errors import Transient
from worker.jobs.states import State
from worker.settings import SettingsError, load
from worker.stack import Stack

SECRET = "hunter2"
ONE = f"aria2+http://:{SECRET}@one:6800/jsonrpc?name=one"
TWO = f"aria2+http://:{SECRET}@two:6800/jsonrpc?name=two&slots=3"


class Held:
    """What the store says of the engines."""

    def __init__(self) -> None:
        self.states: dict[str, dict[State, int]] = {}
        self.away = False

    def engine_states(self) -> dict[str, dict[State, int]]:
        if self.away:
            raise Transient("store", "no answer")
        return self.states


class Place:
    """A file, the engines read from it, and a clock moved by hand."""

    def __init__(self, directory: Path, *lines: str) -> None:
        self.file = directory / "engines"
        self.store, self.now = Held(), 0.0
        self.defaults = Defaults(directory / "downloads", 7, directory)
        if lines:
            self.write(*lines)
        store: Any = self.store
        self.engines = LiveEngines(self.file, self.defaults, store, lambda: self.now)

    def write(self, *lines: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.chmod(0o600)
        fresh.replace(self.file)

    def later(self, seconds: float = LOOK_EVERY_S) -> list[str]:
        self.now += seconds
        return list(self.engines)


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Place]:
    return lambda *lines: Place(tmp_path, *lines)


def test_a_file_has_an_address_a_line_with_remarks_and_a_comma_list_does_as_well(place: Callable[..., Place]) -> None:
    found = place("# the first machine", ONE, "", f"  {TWO}   # the second", "qbittorrent+http://u:p@three,aria2+http://:x@four").engines
    assert list(found) == ["one", "two", "qbittorrent", "aria2"]
    assert (found["one"].slots, found["two"].slots) == (7, 3)


def test_settings_read_the_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "engines"
    file.write_text(f"# ours\n{ONE}\n{TWO} # theirs\n")
    monkeypatch.setenv("HAUL_ENGINES_FILE", str(file))
    settings = load(data_dir=tmp_path)
    assert (settings.engine_addresses, settings.engines_file) == ((ONE, TWO), file)
    assert SECRET not in repr(settings)


def test_an_engine_that_is_added_is_there_within_seconds_and_the_others_stay_connected(place: Callable[..., Place]) -> None:
    here = place(ONE)
    one = here.engines["one"]
    here.write(ONE, TWO)
    assert here.later(LOOK_EVERY_S / 2) == ["one"]
    assert here.later() == ["one", "two"]
    assert here.engines["one"] is one


def test_an_engine_at_another_address_is_connected_anew_under_its_name(place: Callable[..., Place]) -> None:
    here = place(ONE, TWO)
    one, two = here.engines["one"], here.engines["two"]
    here.write(ONE.replace("6800", "6801"), TWO)
    assert here.later() == ["one", "two"]
    assert here.engines["one"] is not one
    assert here.engines["two"] is two
    assert one in here.engines.former(), "who has it may go on with it for a while"
    assert here.later(1_000) == ["one", "two"]
    assert here.engines.former() == ()


@pytest.mark.parametrize("state", [State.SUBMITTING, State.DOWNLOADING, State.FINISHING, State.DONE])
def test_an_engine_that_is_taken_out_is_kept_and_drained_until_nothing_runs_there(place: Callable[..., Place], state: State) -> None:
    here = place(ONE, TWO)
    here.store.states = {"one": {state: 1, State.PAUSED: 2}}
    one = here.engines["one"]
    here.write(TWO)
    assert here.later() == ["two", "one"]
    assert here.engines.leaving == {"one"}
    assert here.later(100 * KEPT_S) == ["two", "one"]
    here.store.away = True
    here.store.states = {"one": {State.PAUSED: 2, State.QUEUED: 1}}
    assert here.later() == ["two", "one"], "nobody can say that it is empty"
    here.store.away = False
    assert here.later() == ["two"]
    assert here.engines.leaving == frozenset()
    assert "one" not in here.engines
    assert here.engines["one"] is one, "who read its name a moment before finds it"


def test_an_empty_engine_is_kept_for_those_who_have_not_read_the_file_yet(place: Callable[..., Place]) -> None:
    here = place(ONE, TWO)
    here.write(TWO)
    assert here.later() == ["two", "one"]
    assert here.later(KEPT_S / 2) == ["two", "one"]
    assert here.later(KEPT_S) == ["two"]


def test_an_engine_that_comes_back_is_what_it_was(place: Callable[..., Place]) -> None:
    here = place(ONE, TWO)
    one = here.engines["one"]
    here.store.states = {"one": {State.DOWNLOADING: 1}}
    here.write(TWO)
    here.later()
    here.write(ONE, TWO)
    assert here.later() == ["one", "two"]
    assert (here.engines["one"], here.engines.leaving) == (one, frozenset())


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([ONE, f"aria2+http://:{SECRET}@two/jsonrpc?name=two&slots=0"], "line 2: slots is out of range"),
        ([ONE, "", "# remark", f"deluge+http://:{SECRET}@x"], "line 4: the scheme is unknown"),
        ([ONE, ONE], "line 2: the name one is taken"),
        ([f"aria2+http://:{SECRET}@x", f"aria2+http://:{SECRET}@y"], "line 2: there is another aria2 without a name: give each"),
        (["# nothing"], "names no engine"),
        ([ONE, "embedded"], "line 2: no stack is running"),
    ],
)
def test_a_mistake_names_file_line_and_field_and_the_old_engines_stay(place: Callable[..., Place], lines: list[str], says: str) -> None:
    here = place(ONE, TWO)
    here.write(*lines)
    assert here.later() == ["one", "two"]
    assert here.engines.fault is not None
    assert here.engines.fault.startswith(f"HAUL_ENGINES_FILE: {here.file}")
    assert says in here.engines.fault
    assert SECRET not in here.engines.fault
    with pytest.raises(SettingsError, match="HAUL_ENGINES_FILE"):
        check_file(here.file, here.defaults)
    here.write(ONE)
    here.later()
    assert (here.engines.fault, here.engines.leaving) == (None, {"two"})


def test_a_file_that_is_gone_or_no_text_leaves_the_old_engines(place: Callable[..., Place]) -> None:
    here = place(ONE)
    away = here.file.with_suffix(".away")
    here.file.rename(away)
    assert here.later() == ["one"]
    assert "cannot read" in str(here.engines.fault)
    away.rename(here.file)
    assert (here.later(), here.engines.fault) == (["one"], None), "the very same file is back"
    here.file.write_bytes(b"# \xff\n" + ONE.encode())
    assert here.later() == ["one"]
    assert "line 1: is not a text in UTF-8" in str(here.engines.fault)


def test_without_a_good_file_there_is_no_engine_until_there_is_one(place: Callable[..., Place]) -> None:
    here = place()
    assert list(here.engines) == []
    assert "cannot read" in str(here.engines.fault)
    here.write(ONE)
    assert here.later() == ["one"]
    assert here.engines.fault is None


def test_embedded_stands_for_the_engines_of_the_stack_that_runs(place: Callable[..., Place], tmp_path: Path) -> None:
    Stack(1, "redis://x", ("aria2+http://:s@127.0.0.1:7/jsonrpc",), None, {}).save(tmp_path)
    assert list(place("embedded", TWO).engines) == ["aria2", "two"]


@pytest.mark.parametrize(("mode", "address", "warned"), [(0o644, ONE, True), (0o640, ONE, False), (0o644, "aria2+http://one", False)])
def test_secrets_that_everybody_may_read_are_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], mode: int, address: str, warned: bool
) -> None:
    file = tmp_path / "engines"
    file.write_text(address)
    file.chmod(mode)
    check_file(file, Defaults(tmp_path, 1, tmp_path))
    said = capsys.readouterr().out
    assert (f"chmod o-r {file}" in said) is warned
    assert SECRET not in said


def test_the_file_of_the_operators_chapter_can_be_loaded(tmp_path: Path) -> None:
    [shown] = re.findall(r"^```text\n(.*?)^```", (ROOT / "docs" / "engines.md").read_text(), re.MULTILINE | re.DOTALL)
    found = parse(tmp_path, shown.encode(), Defaults(tmp_path, 32, tmp_path))
    assert {name: (address.directory, address.weight, address.slots) for name, address in found.items()} == {
        "aria2": ("/srv/haul/a", 1, 32),
        "aria2-b": ("/srv/haul/b", 2, 64),
        "qbittorrent-b": ("/srv/haul/b", 1, 32),
    }


def test_a_name_does_not_hang_on_the_place_of_its_line(tmp_path: Path) -> None:
    defaults = Defaults(tmp_path, 1, tmp_path)
    text = b"aria2+http://:x@one\naria2+http://:x@two?name=aria2-2"
    assert list(parse(tmp_path, text, defaults)) == ["aria2", "aria2-2"]
