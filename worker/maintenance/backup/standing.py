"""How the backups stand, from the run ledger, which every process can read: for metrics and health."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from worker.maintenance.backup.key import is_own, key_path
from worker.maintenance.past import Past, figures_of
from worker.metrics import Metrics
from worker.ports import JobStore, Run
from worker.settings import Settings

#: Names in the run ledger: of the works by the clock, and of the same begun by a person.
BACKUP, DRILL = "backup", "drill"
BY_HAND = "-by-hand"
NAMES = (BACKUP, BACKUP + BY_HAND, DRILL, DRILL + BY_HAND)
#: Failures in a row behind which the last success is still found.
RUNS_MAX = 60


@dataclass(frozen=True, slots=True)
class Standing:
    """Of backups or of drills.

    Attributes:
        ok: how the last one went; None when there was none.
        at, bytes, seconds: of the last that went well; None when none did.
    """

    ok: bool | None
    at: float | None = None
    bytes: float | None = None
    seconds: float | None = None


Lines = Mapping[str, Sequence[Run]]


def standing(lines: Lines, name: str) -> Standing:
    """How this work stands, by the newest lines of `NAMES` (`JobStore.latest_runs`)."""
    past = Past.of(lines[name], lines[name + BY_HAND])
    good = figures_of(past.success)
    return Standing(past.last.ok if past.last else None, good.get("timestamp_seconds"), good.get("bytes"), good.get("seconds"))


def show(lines: Lines, metrics: Metrics) -> None:
    """Set the metrics of backups and drills."""
    for name, gauge in ((BACKUP, metrics.backup_at), (DRILL, metrics.drill_at)):
        found = standing(lines, name)
        if found.ok is not None:
            metrics.backup_ok.labels(name).set(found.ok)
        if found.at is not None:
            gauge.labels(name).set(found.at)
        if found.seconds is not None:
            metrics.backup_seconds.labels(name).set(found.seconds)
        if found.bytes is not None:
            metrics.backup_bytes.labels(name).set(found.bytes)


def advice(settings: Settings) -> str:
    """What whoever runs this has to know of the key, in words; empty when nothing."""
    path = key_path(settings)
    if path is None:
        return "backups are not encrypted (HAUL_BACKUP_KEY_FILE=none), and hold no password of the settings"
    if is_own(settings):
        return f"backups are encrypted with {path}: keep a copy of that file elsewhere, for without it none can be read"
    return ""


def words(store: JobStore, settings: Settings, now: float) -> str:
    """How the backups stand, and what has to be known of them, for people. Raises Transient as the store does."""
    lines = store.latest_runs(NAMES, RUNS_MAX)
    found = standing(lines, BACKUP)
    if found.at is None:
        said = "none yet; one is made each night, or now by `haul backup create`"
    else:
        hours = max(0.0, now - found.at) / 3600
        said = f"the last good one is {f'{hours / 24:.0f} days' if hours > 48 else f'{hours:.0f} hours'} old"
    if found.ok is False:
        said += "; the last try FAILED: `haul backup create` shows why"
    if standing(lines, DRILL).ok is False:
        said += "; the last drill FAILED: `haul backup drill` shows why"
    advised = advice(settings)
    return f"{said}; {advised}" if advised else said
