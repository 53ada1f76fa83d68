"""`.torrent` files that no job names any more, let go by `retention`.

One night it is noted of them, the next they go; whoever keeps a file again in between takes the note away. So a file stays whose job
is recorded hours after it was kept, and a backup that is hours at it has the files of all jobs that it read before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from worker.ports import Services

#: A file goes when so much time has passed since it was noted: less than from one night to the next, however late each is.
NOTED_S = 20 * 3_600.0
#: Looked at by one call to the store, by name only.
LOOK = 1_000
#: Let go by one, which reads what it frees: of 10 MB each at most, and of 50 kB as a rule.
AT_ONCE = 10
#: Between two batches, for those who wait to write.
PAUSE_S = 0.02


def let_go(services: Services, goes_on: Callable[[], bool], *, rehearsal: bool) -> int:
    """Note and remove what no job names, for as long as `goes_on`; how many files went, or in a rehearsal would.

    Idempotent; what was cut off is done the next time.

    Raises:
        Transient: the store does not answer; what was done is done.
    """
    store, removed = services.store, 0
    before, cursor = store.now() - NOTED_S, None
    while goes_on():
        page = store.unnamed_torrents(LOOK, after=cursor)
        old = [name for name, since in page.unnamed.items() if since is not None and since < before]
        new = [name for name, since in page.unnamed.items() if since is None]
        if rehearsal:
            removed += len(old)
        for some in () if rehearsal else _batches([*old, *new]):
            if not goes_on():
                return removed
            removed += store.forget_torrents(some, before)
            time.sleep(PAUSE_S)
        cursor = page.cursor
        if cursor is None:
            break
    return removed


def _batches(names: list[str]) -> list[list[str]]:
    return [names[start : start + AT_ONCE] for start in range(0, len(names), AT_ONCE)]
