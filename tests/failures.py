"""Writes docs/failures.md anew: from an engine's words to a cause to what follows, as the code has it and the tests show it.

What follows is not written by hand: each fault is given to `worker.supervision.failures` until the job is given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tests.contract.test_aria2_failures import CASES, NEVER, SHOWN_BY, Row, fault_of, rows
from tests.contract.test_qbittorrent_failures import SHOWN
from worker.engines.qbittorrent import faults as qbittorrent
from worker.jobs.model import Job, Source, SourceKind, Transfer
from worker.jobs.retries import POLICIES, REST, RETRY_AFTER_MAX_S, TRIES_MAX, Policy, span
from worker.jobs.states import Cause, State
from worker.ports import Fault
from worker.supervision.failures import Around, failed

DOCUMENT = Path(__file__).parent.parent / "docs" / "failures.md"
ALONE, BOTH = Around(frozenset({"a"})), Around(frozenset({"a", "b"}))
HEAD = """\
# Failures

What an engine says, the cause it is for a job, and what follows; `haul why` says the same of a job. This page is written by
`python -m tests.failures` from the tables of the code and the tests that show them: the first half of the way, from words to
causes, is `faults.py` beside each engine's adapter and `STATUSES` in `worker/jobs/retries.py`; the second, from causes to tries,
`POLICIES` there and `worker/supervision/failures.py`.

"""
MORE = """
A job is tried {tries} times at most, whatever the causes, and no more {give_up} after it was asked for (`HAUL_GIVE_UP_S`). Getting
16 MiB further since the last failure of a cause begins its count, and that of all, anew. Times grow from try to try, up to the
second figure, and a part of them is random. `retry` begins all counts anew.

A server that is busy (429, 503 and the like) and says `Retry-After`, in seconds or as a date, is left alone so long, at most
{after}, and up to a tenth longer, by every job that wants something of it. aria2 does not tell what it said, so the source is asked
once more by Haul itself, within the bounds of every probe (`HAUL_PROBE=never` leaves it at the times above).

Another engine is taken where its features and the request (`--engine`) allow; it has a work directory of its own, and the item of
the first is removed. When all have failed, the job's message names what each of them said.
"""


def document() -> str:
    """The whole page."""
    more = MORE.format(tries=TRIES_MAX, give_up="7 days", after=span(RETRY_AFTER_MAX_S))
    return "".join((HEAD, _causes(), more, _aria2(), _qbittorrent(), _ours()))


def _causes() -> str:
    lines = [f"| `{cause}` | {_tries(cause, policy)} | {policy.hint} |" for cause, policy in POLICIES.items()]
    return _table("Causes", "| Cause | New tries while it may pass | What its user can do then |", lines)


def _tries(cause: Cause, policy: Policy) -> str:
    if cause in (Cause.STALLED, Cause.METADATA):
        return f"{policy.tries}, after {REST:.0%} of the time that was waited for, then twice that"
    return (
        f"{policy.tries}, after {span(policy.first_s)} to {span(min(policy.max_s, policy.first_s * 2 ** (policy.tries - 1)))}"
        if policy.tries
        else "none"
    )


def _aria2() -> str:
    lines = [f"| {_name(row)} | {_cells(fault_of(row))} | {_shown(row)} |" for row in rows()]
    return _table("aria2", "| aria2 says | In our words | Cause | What follows | Shown by |", lines)


def _name(row: Row) -> str:
    kind, key = row
    if kind == "rest":
        return "code 22 without a status"
    if kind == "ftp":
        return f"code 21, “{key}”"
    return f"“{key}”" if kind == "text" else f"{kind} {key}"


def _shown(row: Row) -> str:
    cases = [case.name for case in CASES if case.row == row]
    return ", ".join(cases) if cases else SHOWN_BY.get(row) or f"never: {NEVER[row]}"


def _qbittorrent() -> str:
    named = [(name, fault) for name, fault in vars(qbittorrent).items() if isinstance(fault, Fault) and name in SHOWN]
    lines = [f"| {SHOWN[name][0]} | {_cells(fault)} | {SHOWN[name][1]} |" for name, fault in named]
    lines += [f"| error, and its log: “{words}” | {_cells(fault)} | {_by_log(words)} |" for words, fault in qbittorrent.BY_TEXT]
    return _table("qBittorrent", "| qBittorrent shows | In our words | Cause | What follows | Shown by |", lines)


def _by_log(words: str) -> str:
    return SHOWN[words][1]


def _ours() -> str:
    stalled, metadata = Fault(Cause.STALLED, True, "", elsewhere=False), Fault(Cause.METADATA, True, "", elsewhere=True)
    rows = (
        ("no description of a torrent for `HAUL_METADATA_TIMEOUT_S`", metadata),
        ("less than 64 KiB in `HAUL_STALL_TIMEOUT_S`, after some came", stalled),
        ("nothing at all in `HAUL_STALL_TIMEOUT_S`", replace(stalled, elsewhere=True)),
    )
    lines = [f"| {what} | `{fault.cause}` | {follows(fault)} |" for what, fault in rows]
    lines.append(
        "| the checksum is another one | `checksum` | once from the start, on another engine if there is one; a torrent fails at once |"
    )
    lines.append("| the disk does not hold what the engine called complete | `incomplete` | again, 2 times |")
    return _table("Haul itself", "| Haul sees | Cause | What follows |", lines)


def _cells(fault: Fault) -> str:
    return f"{fault.detail} | `{fault.cause}` | {follows(fault)}"


def _table(title: str, head: str, lines: Iterable[str]) -> str:
    rule = "|---" * (head.count("|") - 1) + "|"
    return "\n".join((f"\n## {title}\n", head, rule, *lines, ""))


# ---- what follows ----------------------------------------------------------------------------------------------


def follows(fault: Fault) -> str:
    """What becomes of a job with this fault, by trying."""
    if fault.wait is not None:
        return f"waits (`{fault.wait}`) and starts by itself; nothing failed"
    steps = [*_steps(fault)]
    return ", then ".join([*steps, "failed"]) if steps else "failed"


def _steps(fault: Fault) -> Iterator[str]:
    both = failed(_running(), fault, 0.0, 0.0, BOTH)
    assert both is not None
    if both.avoid and not both.terminal:
        yield "another engine" if both.transfer else "from the start, on another engine if there is one"
    job, here, fresh = _running(), 0, False
    while (new := failed(job, fault, 0.0, 0.0, ALONE)) is not None and not new.terminal:
        fresh |= new.transfer is None
        here += new.transfer is not None
        job = replace(new, state=State.DOWNLOADING, reason=None, transfer=Transfer("j", "a", new.attempt, "/w", 0.0))
    if here:
        yield f"again, {here} time{'s' if here > 1 else ''}"
    if fresh and not both.avoid:
        yield "once from the start"


def _running() -> Job:
    transfer = Transfer("j", "a", 1, "/w", 0.0)
    source = Source(SourceKind.HTTP, "http://host/x")
    return Job("j", "u", None, source, "c", state=State.DOWNLOADING, reason=None, transfer=transfer)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
