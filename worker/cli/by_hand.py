"""What a person begins of the works by the clock, written down beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime

from worker.cli.output import note
from worker.jobs.errors import HaulError
from worker.maintenance.backup.standing import BY_HAND
from worker.maintenance.report import Report
from worker.settings import Settings
from worker.store import open_store, sqlite_path


@contextmanager
def recorded(settings: Settings, work: str) -> Iterator[Callable[[Report], Report]]:
    """Write down in the run ledger how it went, as for the works by the clock; the block tells its report."""

    path = sqlite_path(settings.store_address)
    slot = datetime.now(UTC).isoformat(timespec="microseconds")  # two of one second are two
    told: list[Report] = []

    def tell(report: Report) -> Report:
        told.append(report)
        return report

    def write(report: Report) -> None:
        if path and not path.exists():
            return
        try:
            with closing(open_store(settings.store_address, profile=settings.profile)) as store:
                store.claim_run(work + BY_HAND, slot, "haul backup")
                store.end_run(work + BY_HAND, slot, ok=report.ok, report=report.document())
        except (HaulError, ValueError) as error:
            note(f"this could not be written down in the run ledger: {error}")

    try:
        yield tell
    except HaulError as error:
        write(Report(False, str(error)))
        raise
    for report in told:
        write(report)
