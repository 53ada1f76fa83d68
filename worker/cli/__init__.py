"""The `haul` command. What a command needs is imported when it runs, so that `haul --help` is quick."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; every error ends here, as words and an exit code."""
    from worker.cli import streams

    streams.prepare()
    from worker.cli.app import app
    from worker.cli.output import report

    as_json = "--json" in sys.argv
    try:
        try:
            sys.exit(app(standalone_mode=not as_json) or 0)  # on its own it tells wrong usage in words only
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output, say `head`, has seen enough
        streams.silence()
        sys.exit(0)
    except Exception as error:
        if isinstance(error, OSError) and not error.filename:
            streams.silence()
        sys.exit(report(error, as_json=as_json))
