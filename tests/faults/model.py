"""A small world in one thread: two processes over one store, one Redis and two engines, with a clock of its own."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.faults.mortal import Crash, Mortal, Trouble
from tests.faults.process import Move, Process
from tests.faults.seen import SeenEngine, SeenStore, Told
from tests.faults.stage import on_stage
from tests.faults.witness import Witness
from worker import pipeline
from worker.admission.doors import Accepted
from worker.coordination.fake import FakeCoordinator
from worker.jobs.errors import Failed, Rejected, Transient
from worker.jobs.model import Request, job_id
from worker.jobs.states import Action, State
from worker.metrics import Metrics
from worker.ports import ItemStatus, Step

SLOTS = {"a": 2, "b": 1}
#: Between two turns in which nothing goes wrong: a lease is renewed in time.
TURN_S = 13.0
BEAT_TURNS = 5
#: A reading of the clock takes so long, so that a loop that waits for a time ends.
READING_S = 0.001


class World:
    """Everything there is. Whoever drives it calls `act`, `happen` and `pass_time`, and asks `witness.wrong` after each."""

    def __init__(self) -> None:
        self._closing = ExitStack()
        shm = Path("/dev/shm")  # a disk that is synced for every write would take all the time
        self.directory = Path(tempfile.mkdtemp(prefix="haul-model-", dir=shm if shm.is_dir() else None))
        self._closing.callback(shutil.rmtree, self.directory)
        self.now, self._ahead_s, self._count = 1_000_000.0, 0.0, 0
        self._later: list[tuple[float, Callable[[], object]]] = []
        self._landing, self._actors = False, list[Process]()
        self.away = False
        self.accepted: set[str] = set()
        self.wishes: dict[str, Action | None] = {}
        self._messaged: set[str] = set()
        self._closing.enter_context(on_stage(self))
        self.witness = Witness(SLOTS, lambda: self.now, lambda job: self.engines[job.transfer.engine].holds(job) if job.transfer else False)
        self.outside = Told(self.witness)
        self.store = SeenStore(self.directory / "haul.db", self.read, self.witness)
        self._closing.callback(self.store.close)
        self.engines = {name: self._engine(name, slots) for name, slots in SLOTS.items()}
        self.redis = FakeCoordinator(clock=self.read)
        self.broker, self.metrics = deque[Step](), Metrics()
        self.processes = [self._process(), self._process()]

    def close(self) -> None:
        """Nothing of it is left."""
        self._closing.close()

    def _engine(self, name: str, slots: int) -> SeenEngine:
        volume = self.directory / name
        volume.mkdir()
        return SeenEngine(str(volume), self.witness, name=name, slots=slots, now=lambda: self.now, prompt=self.prompt)

    def _process(self) -> Process:
        self._count += 1
        return Process(self, f"process {self._count}")

    # ---- time ----

    def read(self) -> float:
        """The clock of the store, of Redis, and since boot."""
        self.now += READING_S
        return self.now

    def wall(self) -> float:
        """The wall clock."""
        return self.read() + self._ahead_s

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock."""
        self._ahead_s += seconds

    def pass_time(self, seconds: float) -> None:
        """Time goes by; calls that are late arrive, and nobody hears their answers."""
        end = self.now + seconds
        while self._later and self._later[0][0] <= end:
            at, call = self._later.pop(0)
            self.now, self._landing = max(self.now, at), True
            with contextlib.suppress(Transient, Failed):
                call()
            self._landing = False
        self.now = max(self.now, end)

    def land_later(self, seconds: float, call: Callable[[], object]) -> None:
        """See `mortal.Around`."""
        self._later.append((self.now + seconds, call))
        self._later.sort(key=lambda entry: entry[0])

    def prompt(self) -> bool:
        """Whether the call that is made follows at once on what its caller read before."""
        return not self._landing and not (self._actors and self._actors[-1].stalled)

    # ---- processes ----

    def act(self, number: int, move: Move | Callable[[Process], Any]) -> Any:
        """A process does something, and may die of it; another takes its place. Returns what the call returned, None without an answer.

        Raises:
            Rejected: the product's answer to a user.
        """
        process = self.processes[number]
        process.begin()
        self._actors.append(process)
        try:
            return process.do(move) if isinstance(move, Move) else move(process)
        except Transient:
            return None  # tried again by Celery, found by the sweep
        except Crash:
            self.processes[number] = self._process()
            self.processes[number].expect(process.troubles)
            return None
        except Rejected:
            raise
        except Exception:
            self.witness.wrong.append(traceback.format_exc())
        finally:
            self._actors.pop()

    def go_on_without(self, process: Mortal, trouble: Trouble) -> None:
        """See `mortal.Around`: time passes while the other process, the engines and the users go on."""
        for move in trouble.meanwhile:
            self.pass_time(trouble.seconds)
            for number, other in enumerate(self.processes):
                if other not in self._actors:
                    self.happen(number, move)

    def happen(self, number: int, move: Move) -> None:
        """A move of a process, of all engines, or of all users."""
        if move is Move.COMPLETE:
            self.complete()
        elif move in (Move.CANCEL, Move.RETRY):
            for id in sorted(self.witness.jobs):
                self.wish(number, id, Action(move))
        else:
            self.act(number, move)

    def nudged(self, process: Process) -> None:
        """A nudge reaches a process."""
        if self.broker:
            pipeline.run(process.services, self.broker.popleft())

    def replace(self, number: int) -> None:
        """A process is stopped in order, and another started."""
        self.act(number, Process.stop)
        self.processes[number] = self._process()

    # ---- users ----

    def ask(self, number: int, request: Request) -> None:
        """A user asks at a door that answers."""
        answers = self.act(number, lambda process: pipeline.accept(process.services, [request]))
        for answer in answers or ():
            if isinstance(answer, Accepted):
                self.witness.require(answer.job.id in self.witness.jobs, f"{answer} is not recorded")
            else:
                known = self.witness.jobs.get(job_id(request.user, request.key))
                self.witness.require(known is not None and known.content != request.content, f"{request} was answered {answer!r}")

    def offer(self, number: int, body: dict[str, Any]) -> None:
        """A bot puts a message into the intake; that it was taken is a promise while Redis keeps it."""

        def offered(process: Process) -> bool:
            process.services.coordinator.offer([body])
            return True

        if self.act(number, offered) and body["kind"] == "request":
            self.accepted.add(body["id"])
        if body["kind"] == "control":
            self.wishes[body["job"]] = None
            self._messaged.add(body["job"])

    def wish(self, number: int, id: str, action: Action) -> None:
        """A user wants something of a job."""
        process, known = self.processes[number], self.witness.jobs[id]
        if action is Action.RETRY and not known.terminal:
            return  # asks for nothing
        try:
            answer = self.act(number, lambda process: pipeline.control(process.services, id, action))
        except Rejected:
            return
        certain = answer is not None and not process.stalled and id not in self._messaged
        self.wishes[id] = action if certain else None

    # ---- around ----

    def end_seeding(self) -> None:
        """Every torrent has seeded enough."""
        for engine in self.engines.values():
            for handle, item in engine.shows().items():
                if item.seeding:
                    engine.end_seeding(handle)

    def complete(self) -> None:
        """Every engine fetches all it can."""
        for engine in self.engines.values():
            while any(item.status is ItemStatus.RUNNING for item in engine.shows().values()):
                engine.advance(1 << 20)

    def flush(self) -> None:
        """Redis loses everything, and with it what nobody had read."""
        self.redis.flush()
        self.broker.clear()
        self.accepted &= self.witness.jobs.keys()

    def cut_off(self, away: bool) -> None:
        """Redis answers nobody, or all again."""
        self.away = away
        for process in self.processes:
            process.coordinator.down = away

    def mend(self) -> None:
        """Everybody answers again."""
        self.cut_off(False)
        for engine in self.engines.values():
            engine.hang(False)

    def calm(self, turns: int, *, completing: bool) -> None:
        """Nothing goes wrong for a while: everybody has a turn, again and again."""
        self.mend()
        for process in self.processes:
            process.expect(())
        for turn in range(turns):
            self.pass_time(TURN_S)
            if completing:
                self.complete()
                self.end_seeding()
            for number in range(len(self.processes)):
                self.act(number, Move.ROUND)
            if turn % BEAT_TURNS == 0:
                self.act(0, Move.BEAT)

    def run_out(self, turns: int) -> None:
        """Nothing goes wrong until every job has ended; what is paused is resumed."""
        for _ in range(turns):
            for id, job in sorted(self.witness.jobs.items()):
                if job.state is State.PAUSED:
                    self.wish(0, id, Action.RESUME)
            self.calm(1, completing=True)
            if all(job.terminal for job in self.witness.jobs.values()):
                return

    def effect(self, service: str, call: Callable[..., Any], *args: Any) -> Any:
        """An effect of whoever acts that needs no service."""
        return self._actors[-1].reach(service, call, *args)

    def draw(self, size: int) -> str:
        """So many bytes that are no secret, in hexadecimal; never the same."""
        self._count += 1
        return f"{self._count:0{2 * size}x}"

    def fault_of_ours(self, text: str, **values: Any) -> None:
        """The product logged a fault of its own."""
        self.witness.wrong.append(f"{text}: {values}\n{traceback.format_exc()}")
