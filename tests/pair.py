"""Two engines in memory over one real store, each with its owner, moved by hand; time is the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.machine import services_of
from worker import pipeline
from worker.admission.admit import admit
from worker.delivery.finish import finish
from worker.engines.fake import FakeEngine
from worker.jobs.model import Job, Request, Source, SourceKind
from worker.jobs.states import State
from worker.pipeline import accept
from worker.ports import Engine
from worker.store.sqlite.store import SqliteStore
from worker.supervision.owner import Owner


class Pair:
    """Engines `a` and `b` on volumes of their own.

    Args:
        other: an engine more, which only moves when it is named.

    Attributes:
        now: of the store's clock and of the owners' own.
    """

    def __init__(self, directory: Path, slots: int = 32, other: Engine | None = None, **settings: Any) -> None:
        self.now = 10_000.0
        self.directory = directory
        self.engines = {name: FakeEngine(str(directory / name), name=name, slots=slots) for name in "ab"}
        for engine in self.engines.values():
            Path(engine.directory).mkdir()
        store = SqliteStore(directory / "haul.db", lambda: self.now)
        self.services = services_of(directory, store, [*self.engines.values(), *([other] if other else [])], settings=settings)
        self.take_over()

    def take_over(self) -> None:
        """New owners, as after a restart of the supervisor."""
        self.owners = {name: self.owner(name) for name in self.services.engines}

    def owner(self, name: str, holder: str = "test") -> Owner:
        """A new one, as after a restart of the supervisor."""
        owner = Owner(self.services, self.services.engines[name])
        owner._health._monotonic = owner._held._monotonic = owner._deaths._monotonic = lambda: self.now
        owner._held._owner = holder
        return owner

    def turn(self, *names: str, seconds: float = 1.0, times: int = 1) -> None:
        """Let owners, or both, look once, so much later."""
        for _ in range(times):
            self.now += seconds
            for name in names or list(self.engines):
                self.owners[name]._failover._looked_at = float("-inf")
                self.owners[name]._turn()

    def tick(self, times: int = 1) -> None:
        """Everybody looks, at no cost in time, and sees what was said last; what goes wrong is raised."""
        for _ in range(times):
            for owner in self.owners.values():
                owner._drained._looked_at = float("-inf")
                lease = owner._held.keep()
                assert lease is not None
                owner.tick(lease)

    def pass_(self, seconds: float) -> None:
        """Let time go by, a look every second."""
        self.turn(times=int(seconds))

    def ask(self, number: int = 1, uri: str | None = None, **request: Any) -> list[str]:
        """So many jobs more, each of another magnet link, or of an address."""
        known = sum(self.services.store.counts().values())
        sources = [Source(SourceKind.MAGNET, f"magnet:?xt=urn:btih:{n:040x}") for n in range(known + 1, known + number + 1)]
        sources = [Source(SourceKind.HTTP, uri)] if uri else sources
        answers = accept(self.services, [Request(source, "u", tier="admin", **request) for source in sources])
        ids = [answer.job.id for answer in answers if not isinstance(answer, Exception)]
        assert len(ids) == number
        return ids

    def ask_one(self, kind: SourceKind = SourceKind.HTTP, engine: str | None = None) -> str:
        """One job more, of an address or of a magnet link."""
        uri = f"https://host/{sum(self.services.store.counts().values())}.bin" if kind is SourceKind.HTTP else None
        [id] = self.ask(uri=uri, engine=engine)
        return id

    def admit(self) -> None:
        """Admit what may start, and hand it over."""
        self.now += 3.0  # what was put aside is looked at again
        admit(self.services, 100)
        self.turn()

    def job(self, id: str) -> Job:
        return self.services.store.get([id])[id]

    def at(self, ids: list[str]) -> list[str]:
        """The engine of each."""
        found = [self.job(id).transfer for id in ids]
        return [transfer.engine if transfer else "" for transfer in found]

    def finish(self) -> None:
        """Put in place what is complete."""
        finish(self.services, 100)

    def ask_again(self, id: str) -> list[str]:
        """Another user's job for what this one fetches."""
        [answer] = accept(self.services, [Request(self.job(id).source, "v", tier="admin")])
        assert not isinstance(answer, Exception)
        return [answer.job.id]

    def where(self, id: str) -> str | None:
        """The engine that downloads it."""
        job = self.job(id)
        return job.transfer.engine if job.transfer and job.state is State.DOWNLOADING else None

    def state(self, name: str) -> str:
        return str(self.shown(name)["state"])

    def shown(self, name: str) -> dict[str, object]:
        """What is told of an engine."""
        return {engine["name"]: engine for engine in pipeline.overview(self.services)["engines"]}[name]
