"""What people and programs read: sizes and times in words, JSON, and for each error its words and its exit code."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Any

from worker.cli.streams import speaks_unicode
from worker.jobs.errors import Failed, Rejected, Transient
from worker.jobs.model import Job, Progress
from worker.jobs.states import State
from worker.notation.sizes import size_text

#: What a machine refuses, and no fault of ours.
REFUSED_BY_MACHINE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE})


class Exit(IntEnum):
    """What a command's exit code says."""

    OK = 0
    FAILED = 1  # the job or the check failed
    USAGE = 2  # the input is wrong; nothing was started
    UNREACHABLE = 3  # a service is not there
    INTERRUPTED = 130  # Ctrl-C, as shells count


def report(error: BaseException, *, as_json: bool) -> Exit:
    """Say what happened on stderr, in words or as a problem document; returns the exit code."""
    code = _exit_code(error)
    if code is None:
        raise error  # a fault of ours: the traceback is the best we have
    if as_json:
        sys.stderr.write(json.dumps(_problem(error, code)) + "\n")
    else:
        sys.stderr.write(f"haul: {_words(error)}\n")
    return code


def print_json(value: Any) -> None:
    """One JSON document, one line, on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=not speaks_unicode()) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """A remark for people, beside the data."""
    sys.stderr.write(f"haul: {text}\n")


def time_text(seconds: float | None) -> str:
    """Seconds in words: `3 s`, `2:05`, `1:02:05`; empty when unknown."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def by_engine(jobs: Iterable[Job]) -> dict[str, list[str]]:
    """The ids of the jobs that are at an engine, as `Coordinator.progress` takes them."""
    ids: dict[str, list[str]] = {}
    for job in jobs:
        if job.transfer and not job.terminal:
            ids.setdefault(job.transfer.engine, []).append(job.id)
    return ids


def title(job: Job) -> str:
    """A short name for a job: of its file, or of its source."""
    if job.name:
        return job.name
    if job.result:
        return job.result.path.rstrip("/").rpartition("/")[2]
    if job.description:
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in job.description.name)
    shown = job.source.shown
    return shown.rstrip("/…?").rpartition("/")[2] or shown


def state_text(job: Job) -> str:
    """The state with what matters about it: `queued (slots)`, `downloading (metadata)`, `failed (not_found)`."""
    detail = {State.QUEUED: job.reason, State.DOWNLOADING: job.phase, State.FAILED: job.cause}.get(job.state)
    wish = {"pause": ", to be paused", "cancel": ", to be cancelled"}.get(job.want, "") if not job.terminal else ""
    if job.state is State.PAUSED and job.want != "cancel":
        wish = ""
    return (f"{job.state} ({detail})" if detail and detail != "transfer" else str(job.state)) + wish


def progress_text(job: Job, progress: Progress) -> str:
    """How far a job is: `42 % of 1.0 GiB at 8.0 MiB/s, 1:10 left`."""
    if job.state is State.DONE and job.result:
        return size_text(job.result.size)
    if not progress.done and progress.total is None:
        return ""
    share = f"{percent(progress)} % of {size_text(progress.total)}" if progress.total else size_text(progress.done)
    if job.state is not State.DOWNLOADING:
        return share
    left = f", {time_text(progress.eta_s)} left" if progress.eta_s is not None else ""
    return f"{share} at {size_text(progress.speed)}/s{left}"


def percent(progress: Progress) -> int:
    """Whole percents, rounded down, so that 100 means all."""
    return min(100, 100 * progress.done // progress.total) if progress.total else 0


def _exit_code(error: BaseException) -> Exit | None:
    from typer import Abort

    from worker.cli.servers import ServerFailed, ServerMissing
    from worker.settings import NoStack, SettingsError

    if isinstance(error, NoStack | Transient | ServerFailed | ServerMissing):
        return Exit.UNREACHABLE
    if isinstance(error, Rejected | SettingsError):
        return Exit.USAGE
    if hasattr(error, "format_message"):  # of the parser of the command line; its classes are no public part of it
        return Exit.USAGE
    if isinstance(error, Failed | Abort) or (isinstance(error, OSError) and error.errno in REFUSED_BY_MACHINE):
        return Exit.FAILED
    return None


def _words(error: BaseException) -> str:
    """What happened, with the file at fault."""
    if hasattr(error, "format_message"):
        return str(error.format_message())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'cannot write'}: {error.strerror}"
    return str(error) or "given up"


def _problem(error: BaseException, code: Exit) -> Mapping[str, Any]:
    extra: dict[str, Any] = {"field": error.field, "fix": error.fix} if isinstance(error, Rejected) else {}
    if isinstance(error, Rejected) and error.retry_after_s is not None:
        extra["retry_after_s"] = error.retry_after_s
    return {"title": type(error).__name__, "detail": _words(error), "exit": int(code), **extra}
