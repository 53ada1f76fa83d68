"""Backups of the records, and the proof that they can be restored; docs/backup.md has the whole of it."""

from worker.maintenance.backup.work import run_backup, run_drill

__all__ = ["run_backup", "run_drill"]
