"""Baselines: what a healthy system measures, kept, and compared with what it measures now."""

from worker.maintenance.baseline.work import run

__all__ = ["run"]
