"""Reads without a limit, and why each needs none; the words go with the query, where a server's log and the advisor see them.

The advisor asks after all such reads, and of these only when one has brought more than it should.
"""

from __future__ import annotations

MARK = "bounded:"

AT_ENGINE = f"{MARK} an engine's slots, and what waits in its own queue"
HOLDERS = f"{MARK} the transfers asked for, and a few jobs that share each"
SETTINGS = f"{MARK} what an operator has set"
LEASES = ENGINES = f"{MARK} a row an engine"
