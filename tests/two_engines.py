"""The steps over two engines in memory, a real store and real files, moved by hand."""

from __future__ import annotations

from pathlib import Path

from tests.machine import services_of
from worker import pipeline
from worker.admission.admit import admit
from worker.engines.fake import FakeEngine
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.jobs.states import State
from worker.ports import Services
from worker.store.sqlite.store import SqliteStore
from worker.supervision.owner import Owner


class Pair:
    """Two engines, `a` and `b`, their owners, one store."""

    def __init__(self, directory: Path) -> None:
        self.now = 1_000.0
        self.directory = directory
        self.engines = {name: self._engine(name) for name in "ab"}
        self.services: Services = services_of(directory, SqliteStore(directory / "haul.db", lambda: self.now), [*self.engines.values()])
        self.take_over()
        self.tick()

    def _engine(self, name: str) -> FakeEngine:
        volume = self.directory / name
        volume.mkdir()
        return FakeEngine(str(volume), name=name, slots=4)

    def take_over(self) -> None:
        """New owners, as after a restart of the supervisor."""
        self.owners = [Owner(self.services, engine) for engine in self.engines.values()]

    def tick(self, times: int = 1) -> None:
        """Everybody looks, and sees what was said last."""
        for _ in range(times):
            for owner in self.owners:
                owner._departure._looked_at = float("-inf")
                lease = owner._held.keep()
                assert lease is not None
                owner.tick(lease)

    def ask(self, *, kind: SourceKind = SourceKind.HTTP, engine: str | None = None) -> str:
        number = sum(self.services.store.counts().values())
        source = Source(kind, f"https://host/{number}.bin" if kind is SourceKind.HTTP else f"magnet:?xt=urn:btih:{number:040x}")
        [answer] = pipeline.accept(self.services, [Request(source, "u", engine=engine)])
        assert not isinstance(answer, Exception), answer
        return answer.job.id

    def turn(self) -> None:
        admit(self.services, 100)
        self.tick()

    def job(self, id: str) -> Job:
        return self.services.store.get([id])[id]

    def where(self, id: str) -> str | None:
        job = self.job(id)
        return job.transfer.engine if job.transfer and job.state is State.DOWNLOADING else None

    def state(self, name: str) -> str:
        return str(self.shown(name)["state"])

    def shown(self, name: str) -> dict[str, object]:
        return {engine["name"]: engine for engine in pipeline.overview(self.services)["engines"]}[name]
