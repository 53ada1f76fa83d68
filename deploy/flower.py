"""Flower's settings, so that its password is read from a file: neither the environment nor `docker inspect` shows it."""

from pathlib import Path

basic_auth = [Path("/run/secrets/flower_auth").read_text().strip()]
max_tasks = 20_000
purge_offline_workers = 600
