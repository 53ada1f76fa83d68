"""What is in place is on the disk before a record says so: bytes before their name, the name before the record."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.machine import Machine
from tests.unit.sharing.askers import ask, complete
from worker.admission.admit import admit
from worker.delivery import place
from worker.delivery.finish import finish
from worker.jobs.model import SourceKind
from worker.jobs.states import State


@pytest.fixture
def effects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Effects on the disk in their order: `sync <name>` and `link <name>`."""
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_sync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(f"sync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")

    def noted_link(source: Any, destination: Any, **options: Any) -> None:
        link(source, destination, **options)
        done.append(f"link {Path(destination).name}")

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "link", noted_link)
    return done


def test_the_bytes_are_durable_before_their_name_and_the_name_before_the_record(
    tmp_path: Path, effects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path)
    id = ask(machine, uri="http://host/x", kind=SourceKind.HTTP, name="named", out=str(tmp_path / "out"))
    machine.tick()
    admit(machine.services, 100)
    machine.tick()
    complete(machine)
    machine.tick()
    apply = machine.services.store.apply

    def noted_apply(changes: Any, *lease: Any) -> Any:
        effects.extend(f"record {change.new.state}" for change in changes)
        return apply(changes, *lease)

    monkeypatch.setattr(machine.services.store, "apply", noted_apply)
    effects.clear()
    finish(machine.services, 100)
    assert machine.job(id).state is State.DONE
    recorded = effects.index("record done")
    linked, named = effects.index("link named"), effects.index("sync out")
    assert any(effect.startswith("sync ") for effect in effects[:linked]), "the bytes"
    assert linked < named < recorded


def test_a_copy_is_durable_before_it_gets_its_name(tmp_path: Path, effects: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, destination = tmp_path / "work" / "x", tmp_path / "out" / "named"
    source.parent.mkdir()
    source.write_bytes(b"bytes")
    link = os.link

    def apart(origin: Any, target: Any, **options: Any) -> None:
        if Path(origin) == source:
            raise OSError(errno.EXDEV, "another file system")
        link(origin, target, **options)

    monkeypatch.setattr(os, "link", apart)
    place.put([place.Piece(source, destination, 5)])
    assert destination.read_bytes() == b"bytes"
    copied, linked, named = effects[0], effects.index("link named"), effects.index("sync out")
    assert copied.startswith("sync ."), "the part"
    assert 0 < linked < named
