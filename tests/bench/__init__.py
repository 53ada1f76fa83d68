"""Benchmarks: whole processes, each beside its peer or its limit in the same run. They print; they never fail a test."""
