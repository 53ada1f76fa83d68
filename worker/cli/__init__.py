"""The `haul` command. What a command needs is imported when it runs, so that `haul --help` is quick."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; every error ends here, as words and an exit code."""
    from worker.cli.app import app
    from worker.cli.output import report

    try:
        app()
    except BrokenPipeError:  # the reader of our output, say `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        sys.exit(report(error, as_json="--json" in sys.argv))
