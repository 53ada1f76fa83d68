"""What goes when it is old enough, or too much: finished jobs and their `.torrent` files, what failed ones left behind, lines of the
ledger; files when asked for.

What is on its way, seeds, or is needed by another job stays, and so does a job while somebody has not been told of it, unless that is
a receiver of webhooks that is not there any more. A record goes after the files it tells of. Nothing here deletes what engines work in:
a failed job lets go of its transfer, and the owner of its engine, who alone may, clears up.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from worker.jobs.directories import WORK, flatten
from worker.jobs.events import EventType
from worker.jobs.hooks import receivers
from worker.jobs.model import Job
from worker.jobs.states import TERMINAL, State
from worker.jobs.transfer import own_id
from worker.limits import STEP_BATCH
from worker.maintenance import torrents
from worker.maintenance.backup.pace import SHARE, Pace
from worker.maintenance.report import Report
from worker.notation.sizes import size_text
from worker.ports import Change, JobFilter, Services

DAY_S = 86_400.0
#: No record goes that ended later, whatever the settings say: it counts for its user's day, and its key still tells a repeated request.
LEAST_DAYS = 2.0
#: A job waits so long for a receiver of its events that is not in the settings to come back; one that is there has as long for an event.
RECEIVER_DAYS = 3.0
#: What is left then goes the next night.
BUDGET_S = 1_800.0
#: Between two batches, for those who wait to write.
PAUSE_S = 0.02
#: Of each work so many lines of the ledger stay, however old; more than a look reads, and those it writes down as missed.
RUNS_KEPT = 300
#: The works that have a line among the newest of the ledger.
LINES_SEEN = 2_000
ENDINGS = frozenset({EventType.COMPLETED, EventType.FAILED, EventType.CANCELLED, EventType.REFUSED})
FAULTS_NAMED = 5
FIGURES = (
    "jobs_removed",
    "jobs_untold",
    "jobs_unheard",
    "torrents_removed",
    "work_let_go",
    "files_removed",
    "bytes_removed",
    "runs_removed",
)
DELETING = "its files are being deleted"


def run(services: Services) -> Report:
    """Let go what the settings say. Idempotent; what a kill left undone is done the next time.

    Raises:
        Transient: the store does not answer; what was done is done.
    """
    return _Round(services, rehearsal=False).report()


def rehearse(services: Services) -> Report:
    """Say what `run` would do, and change nothing."""
    return _Round(services, rehearsal=True).report()


@dataclass
class _Round:
    """One run over everything.

    Attributes:
        done: what was done, or would be.
        faults: what the file system refused.
    """

    services: Services
    rehearsal: bool
    done: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.settings = self.services.settings
        self.now = self.services.clock.time()
        self.deadline = time.monotonic() + BUDGET_S
        self.volumes = {engine.directory for engine in self.services.engines.values()}
        self.receivers = receivers(self.settings.webhook_addresses)
        self.pace = Pace(share=0.0 if self.rehearsal else SHARE)
        self.cut = False

    def report(self) -> Report:
        self._let_go()
        if self.settings.keep_user_bytes:
            self._hold_users_to_their_bytes()
        self._remove_jobs()
        self.done["torrents_removed"] = torrents.let_go(self.services, self._goes_on, rehearsal=self.rehearsal)
        self._remove_lines()
        done = self.done
        summary = (
            f"{done['jobs_removed']} jobs, {done['torrents_removed']} .torrent files, {done['runs_removed']} runs,"
            f" files of {done['files_removed']} jobs ({size_text(done['bytes_removed'])});"
            f" {done['work_let_go']} failed jobs let go of what was fetched"
        )
        summary += f"; of {done['jobs_unheard']} jobs a receiver that is gone was not told" if done["jobs_unheard"] else ""
        summary += "; the rest goes the next time" if self.cut else ""
        summary += f"; {len(self.faults)} could not be deleted: {self.faults[0]}" if self.faults else ""
        return Report(not self.faults, summary, {name: done[name] for name in FIGURES}, {"faults": self.faults[:FAULTS_NAMED]})

    # ---- what failed jobs left behind ----

    def _let_go(self) -> None:
        """Have old failed jobs forget what was fetched of them; a retry begins anew, under another name on the disk."""
        limits = [days for days in (self.settings.keep_work_days, self.settings.keep_jobs_days) if days]
        after: str | None = None
        while limits and self._goes_on() and (page := self.services.store.in_state(State.FAILED, STEP_BATCH, after=after)):
            after = page[-1].id
            old = [job for job in page if job.transfer is not None and self._age_days(job) > min(limits)]
            text = "what was fetched of it is let go, to be deleted: it failed long ago"
            news = [job.noted(self.now, text, transfer=None, handed=job.handed + 1) for job in old]
            if old and not self.rehearsal:
                applied = self.services.store.apply([Change(job, new) for job, new in zip(old, news, strict=True)])
                self.done["work_let_go"] += sum(each.won for each in applied)
                time.sleep(PAUSE_S)
            elif old:
                self.done["work_let_go"] += len(old)
            self._rest()

    # ---- files ----

    def _hold_users_to_their_bytes(self) -> None:
        """Delete what goes beyond a user's bytes, the oldest first; a user's newest stays, however large it is."""
        held: Counter[str] = Counter()
        cursor: str | None = None
        while self._goes_on():
            page = self.services.store.page(JobFilter(states=(State.DONE,)), STEP_BATCH, cursor)
            for job in page.jobs:
                if self._directory(job) is not None and job.result is not None:
                    full = held[job.user] > 0 and held[job.user] + job.result.size > self.settings.keep_user_bytes
                    if full:
                        self._delete_files(job, "its user has more than the bytes that are kept")
                    else:
                        held[job.user] += job.result.size
            self._rest()
            cursor = page.cursor
            if cursor is None:
                return

    def _directory(self, job: Job) -> Path | None:
        """Where a done job's files lie, when that is a place of its own that holds them; never one that somebody named."""
        if job.state is not State.DONE or job.seeding or job.out is not None or job.result is None:
            return None
        directory = Path(job.result.path).parent
        ours = directory.name == job.id and str(directory.parent) in self.volumes
        return directory if ours and directory.is_dir() and not directory.is_symlink() else None

    def _delete_files(self, job: Job, why: str) -> Job:
        """Write down that they go, once however often it takes, then delete them; the job as it is then."""
        directory = self._directory(job)
        if directory is None or job.result is None:
            return job
        known = any(event.text.startswith(DELETING) for event in job.events)
        noted = job if known else job.noted(self.now, f"{DELETING}: {why}")
        if not self.rehearsal:
            if not known and not self.services.store.apply([Change(job, noted)])[0].won:
                return job
            self.services.failpoints.hit("retention.noted", job.id)
            if fault := _removed(directory):
                self.faults.append(fault)
                return noted
        self.done["files_removed"] += 1
        self.done["bytes_removed"] += job.result.size
        return noted

    # ---- records ----

    def _remove_jobs(self) -> None:
        """Walk over finished jobs, those that were recorded first at the beginning, as far as anything may have to go."""
        settings, store = self.settings, self.services.store
        days = [days for days in (settings.keep_jobs_days, settings.keep_files_days) if days]
        surplus = sum(store.counts(TERMINAL).values()) - settings.keep_jobs if settings.keep_jobs else 0
        newest = self.now - min(days) * DAY_S if days else float("-inf")
        cursor: str | None = None
        while self._goes_on():
            page = store.finished(STEP_BATCH, after=cursor)
            reached = [job for job in page.jobs if surplus > 0 or job.created_at <= newest]
            known = [self._without_old_files(job) for job in reached]
            known = [job for job in known if self._age_days(job) > LEAST_DAYS]
            old = [job for job in known if settings.keep_jobs_days and self._age_days(job) > settings.keep_jobs_days]
            aged = {job.id for job in old}
            young = [job for job in known if job.id not in aged]
            surplus -= self._remove([*old, *young[: max(0, surplus - len(old))]])
            self._rest()
            cursor = page.cursor
            if cursor is None or len(reached) < len(page.jobs):
                return

    def _without_old_files(self, job: Job) -> Job:
        days = self.settings.keep_files_days
        old = days and self._age_days(job) > days
        return self._delete_files(job, f"they are older than {days:g} days") if old else job

    def _remove(self, jobs: Sequence[Job]) -> int:
        """Remove the records of those nobody and nothing needs; how many went, or would."""
        untold = [job for job in jobs if job.unsent or (job.unposted and not self._unheard(job))]
        self.done["jobs_untold"] += len(untold)
        free = [job for job in jobs if job not in untold and not job.seeding and not self._has_files(job)]
        shared = {job.transfer.id for job in free if job.transfer is not None}
        store, mine = self.services.store, {job.id for job in free}
        needed = {job.transfer.id for job in store.holding(shared) if job.transfer and job.id not in mine} if shared else set()
        needed |= {job.follows for job in store.following(shared, STEP_BATCH) if job.follows} if shared else set()
        free = [job for job in free if job.transfer is None or job.transfer.id not in needed]
        if not free:
            return 0
        self._give_up([job for job in free if job.unposted])
        removed = len(free) if self.rehearsal else store.remove(free)
        self.done["jobs_removed"] += removed
        if not self.rehearsal:
            time.sleep(PAUSE_S)
        return removed

    def _unheard(self, job: Job) -> bool:
        """True when there is nobody any more who could be told by its webhook, and has not been for long."""
        gone = job.hook is not None and job.hook.receiver not in self.receivers
        return gone and self._age_days(job) > RECEIVER_DAYS

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """Give up the events that nobody is there to take; no other process marks these, for none knows their receiver."""
        self.done["jobs_unheard"] += len(jobs)
        if jobs and not self.rehearsal:
            self.services.store.mark_posted({job.id: job.hook.past(job.version) for job in jobs if job.hook})
            self.services.metrics.webhooks_given_up.inc(sum(len(job.unposted) for job in jobs))

    def _has_files(self, job: Job) -> bool:
        """True while anything lies on the disk that only this record tells of: an engine's work, or files that are to go by their age."""
        if job.state is State.FAILED and job.transfer is not None:
            return True
        names = [own_id(job.id, handed, name) for handed in range(job.handed + 1) for name in {"", self.settings.installation}]
        if any(Path(volume, WORK, name).exists() for volume in self.volumes for name in names):
            return True
        to_go = bool(self.settings.keep_files_days or self.settings.keep_user_bytes)
        return to_go and self._directory(job) is not None and not self.rehearsal

    def _remove_lines(self) -> None:
        days, store = self.settings.keep_runs_days, self.services.store
        if not days or self.rehearsal:
            return
        before = store.now() - days * DAY_S
        names = {line.name for line in store.runs(None, LINES_SEEN)}
        for name in sorted(name for name in names if "." not in name):  # the others are kept, and bounded, by the work they belong to
            self.done["runs_removed"] += store.drop_runs(name, RUNS_KEPT, before)

    def _age_days(self, job: Job) -> float:
        ended = max((event.at for event in job.events if event.type in ENDINGS), default=job.updated_at)
        return (self.now - ended) / DAY_S

    def _rest(self) -> None:
        """Leave Python's lock to the steps of this process for as long as keeps this work to its share of a processor."""
        self.pace.spend(0)

    def _goes_on(self) -> bool:
        self.cut = self.cut or time.monotonic() >= self.deadline
        return not self.cut


def _removed(directory: Path) -> str:
    """What the file system refused; empty when all of it is gone."""
    try:
        shutil.rmtree(directory)
    except RecursionError:
        flatten(directory)
        return f"{directory}: it is too deep, and not all of it could be deleted" if directory.exists() else ""
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return ""
