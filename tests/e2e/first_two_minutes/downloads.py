"""What is downloaded."""

from __future__ import annotations

SIZE = 300_000
#: A download that lasts as long as a test needs it to.
SLOW = "size=3000000&rate=1000000"
#: What may be on the way to aria2 when it is stopped, on a machine that is busy; less than what it had by then.
ON_THE_WAY_BYTES = 600_000
