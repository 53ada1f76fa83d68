"""Baselines: what a healthy system measures, kept, and compared with what it measures now."""

from worker.maintenance.baseline.work import run, run_daily

__all__ = ["run", "run_daily"]
