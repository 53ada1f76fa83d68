"""`python -m worker.cli` is `haul`."""

from worker.cli import main

main()
