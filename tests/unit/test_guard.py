"""The modes of the guard: what is told of them, and what does not start."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.machine import services_of
from worker import wiring
from worker.admission import guard
from worker.cli.status import _egress
from worker.engines.fake import FakeEngine
from worker.jobs.errors import Transient
from worker.ports import Services
from worker.settings import SettingsError, load
from worker.store.sqlite.store import SqliteStore

REACHED = "it reached the private address 10.0.0.1 of this machine"


def services_in(mode: str, directory: Path, store: SqliteStore) -> Services:
    return services_of(directory, store, [FakeEngine(str(directory))], settings={"egress": mode})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with closing(SqliteStore(tmp_path / "haul.db")) as opened:
        yield opened


def test_a_mode_that_there_is_not_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAUL_EGRESS", "open")
    with pytest.raises(SettingsError, match=r"HAUL_EGRESS: .*'checked', 'guarded' or 'strict'"):
        load()


def test_nothing_starts_in_the_strict_mode_while_an_engine_reaches_a_private_address(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "unproved", lambda engine, settings: REACHED)
    with pytest.raises(SettingsError, match=f"HAUL_EGRESS: strict, and engine fake is not proved to be guarded: {REACHED}"):
        wiring.build_supervisor(services_in("strict", tmp_path, store))
    for mode in ("checked", "guarded"):
        wiring.build_supervisor(services_in(mode, tmp_path, store))


def test_the_strict_mode_waits_for_an_engine_that_does_not_answer_yet(
    tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [Transient("engine fake", "no answer in time"), None]

    def unproved(*_: object) -> str | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return None

    monkeypatch.setattr(guard, "unproved", unproved)
    wiring.build_supervisor(services_in("strict", tmp_path, store))
    assert answers == []
    answers.append(Transient("engine fake", "no answer in time"))
    services = services_in("strict", tmp_path, store)
    with pytest.raises(SettingsError, match="no answer in time"):
        guard.require(services, guard.Proofs(services.settings), wait_s=0.0)


def test_an_engine_is_proved_once_and_one_at_another_address_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[str | None] = [REACHED, None, REACHED]
    monkeypatch.setattr(guard, "unproved", lambda engine, settings: answers.pop(0))
    first, changed = FakeEngine(str(tmp_path)), FakeEngine(str(tmp_path))
    proofs = guard.Proofs(load())
    assert [proofs.unproved(first) for _ in range(3)] == [REACHED, None, None]
    assert proofs.unproved(changed) == REACHED


def test_health_says_in_words_what_risk_is_left(tmp_path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "unproved", lambda engine, settings: REACHED)
    checked = _egress(services_in("checked", tmp_path, store), deep=True)
    assert list(checked) == ["egress"]
    assert "engines resolve and follow again by themselves" in checked["egress"]["note"]
    guarded = services_in("guarded", tmp_path, store)
    assert list(_egress(guarded, deep=False)) == ["egress"]
    assert _egress(guarded, deep=True)["guard of fake"]["error"] == f"not proved: {REACHED}"
