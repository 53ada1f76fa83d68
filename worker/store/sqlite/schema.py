"""The tables of the SQLite store, and the check that a file is one of ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

#: `PRAGMA user_version` of the tables below; 0 is an empty file.
SCHEMA_VERSION = 6

HEADER = b"SQLite format 3\0"

#: Of a job without a hook, `event > NULL` does not hold: it is not in the index.
JOBS_UNPOSTED = """
    CREATE INDEX jobs_unposted ON jobs (json_extract(hook, '$.receiver'), json_extract(hook, '$.not_before'), changed)
    WHERE event > json_extract(hook, '$.sent')
"""

#: What was set at run time; the value is JSON.
LIMITS = "CREATE TABLE limits (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"

#: `worker.breaker.Breaker` of each engine, JSON.
BREAKERS = "CREATE TABLE breakers (engine TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID"
#: Engines that are given nothing new; the document is `ports.Drain`.
DRAINS = "CREATE TABLE drains (engine TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID"

#: Of a column, not of the document: an index on an expression is reckoned anew at each write of the row.
JOBS_BY_USER_AND_TIME = "CREATE INDEX jobs_by_user_and_time ON jobs (user, created_at)"
#: Small, however many jobs there are, and `slot_counts` reads nothing else.
JOBS_IN_SLOT = "CREATE INDEX jobs_in_slot ON jobs (user, tier, state) WHERE state IN ('downloading', 'submitting')"
#: What the next version of the table `jobs` has that the third had not.
SPACE = (
    "CREATE INDEX jobs_promised ON jobs (engine, out, promised) WHERE promised IS NOT NULL",
    "CREATE INDEX jobs_short ON jobs (short_since) WHERE short_since IS NOT NULL",
    "CREATE INDEX jobs_unprobed ON jobs (id) WHERE unprobed = 1",
)
#: All jobs but for the few that share have nothing here.
JOBS_SHARED = (
    "CREATE INDEX jobs_holding ON jobs (holds) WHERE holds IS NOT NULL",
    "CREATE INDEX jobs_following ON jobs (follows) WHERE follows IS NOT NULL",
    "CREATE INDEX jobs_by_content ON jobs (content) WHERE content IS NOT NULL",
    "CREATE INDEX jobs_by_content2 ON jobs (content2) WHERE content2 IS NOT NULL",
)

#: Of jobs whose source is a `.torrent` file; for all others nothing is reckoned. Of the document itself: a process of an earlier
#: version that still runs would leave a column as it was, and a file that its job names would be taken for nobody's.
JOBS_BY_TORRENT = "CREATE INDEX jobs_by_torrent ON jobs (json_extract(document, '$.description.document')) WHERE torrent = 1"
#: `.torrent` files that no job names, and since when that is noted; apart from them, for a row of theirs may have 10 MB.
UNNAMED = "CREATE TABLE unnamed (id TEXT PRIMARY KEY, since REAL NOT NULL) WITHOUT ROWID"

TABLES = (
    # One row, so that every process of a boot reads the same clock and every write has a place in one order.
    """
    CREATE TABLE meta (
        one     INTEGER PRIMARY KEY CHECK (one = 1),
        boot    TEXT    NOT NULL,   -- Anchor.boot
        offset  REAL    NOT NULL,   -- Anchor.offset
        latest  REAL    NOT NULL,   -- store time of the last write
        changes INTEGER NOT NULL    -- jobs inserted and changed, ever
    )
    """,
    # The document is the job; the other columns repeat what queries look for, or change without a new version.
    """
    CREATE TABLE jobs (
        seq         INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of recording
        id          TEXT    NOT NULL UNIQUE,
        user        TEXT    NOT NULL,
        state       TEXT    NOT NULL,
        version     INTEGER NOT NULL,
        changed     INTEGER NOT NULL,   -- meta.changes of the last change
        event       INTEGER NOT NULL,   -- version of the last event for the outside
        sent        INTEGER NOT NULL,   -- Job.sent
        engine      TEXT,               -- of the transfer, while the job is not terminal, or done and seeding
        needs_owner INTEGER NOT NULL,   -- Job.needs_owner, 0 or 1
        document    TEXT    NOT NULL,   -- JSON without progress, sent and hook
        undescribed INTEGER NOT NULL DEFAULT 0, -- Job.needs_description, 0 or 1
        hook        TEXT,               -- Job.hook, JSON
        tier        TEXT    NOT NULL DEFAULT 'free',
        unprobed    INTEGER NOT NULL DEFAULT 0, -- needs.needs_probe, 0 or 1
        promised    INTEGER,            -- needs.promised
        out         TEXT,               -- Job.out
        short_since REAL,                -- needs.short_since
        holds       TEXT,               -- id of the transfer, while anything goes on from what was fetched
        follows     TEXT,               -- Job.following
        content     TEXT,               -- content.keys of a live job that holds a transfer
        content2    TEXT,
        created_at  REAL NOT NULL DEFAULT 0, -- Job.created_at
        torrent     INTEGER NOT NULL DEFAULT 1 -- 0: names no `.torrent` file, now or later
    )
    """,
    # Apart from the documents: a row here is 80 bytes, and all jobs of an engine get a new one every few seconds.
    """
    CREATE TABLE progress (
        seq      INTEGER PRIMARY KEY,   -- jobs.seq
        document TEXT NOT NULL
    )
    """,
    # Of up to 10 MB each, and read by name only.
    """
    CREATE TABLE torrents (
        id       TEXT PRIMARY KEY,  -- SHA-256 of the document, in hexadecimal
        document BLOB NOT NULL
    )
    """,
    # A released lease keeps its row: its token must not come back.
    """
    CREATE TABLE leases (
        name  TEXT    PRIMARY KEY,
        owner TEXT,
        token INTEGER NOT NULL,
        until REAL    NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE runs (
        seq        INTEGER PRIMARY KEY AUTOINCREMENT,
        name       TEXT    NOT NULL,
        slot       TEXT    NOT NULL,
        owner      TEXT    NOT NULL,
        started_at REAL    NOT NULL,
        ended_at   REAL,
        ok         INTEGER,
        report     TEXT    NOT NULL DEFAULT '{}',
        UNIQUE (name, slot)
    )
    """,
    # An index ends with the row's seq, so these four are in the order of recording as well.
    "CREATE INDEX jobs_by_user ON jobs (user, state)",
    "CREATE INDEX jobs_by_state ON jobs (state)",
    "CREATE INDEX jobs_at_engine ON jobs (engine, state) WHERE engine IS NOT NULL",
    "CREATE INDEX runs_by_name ON runs (name)",
    "CREATE INDEX jobs_by_state_and_id ON jobs (state, id)",
    "CREATE INDEX jobs_needing_owner ON jobs (engine, changed) WHERE needs_owner = 1",
    "CREATE INDEX jobs_unsent ON jobs (changed) WHERE event > sent",
    "CREATE INDEX jobs_undescribed ON jobs (id) WHERE undescribed = 1",
    JOBS_UNPOSTED,
    LIMITS,
    JOBS_BY_USER_AND_TIME,
    JOBS_IN_SLOT,
    *SPACE,
    *JOBS_SHARED,
    BREAKERS,
    DRAINS,
    JOBS_BY_TORRENT,
    UNNAMED,
    "INSERT INTO meta VALUES (1, '', 0, 0, 0)",
)

#: What makes a file of one version a file of the next.
UPGRADES: Mapping[int, tuple[str, ...]] = {
    1: (
        "CREATE TABLE torrents (id TEXT PRIMARY KEY, document BLOB NOT NULL)",
        "ALTER TABLE jobs ADD COLUMN undescribed INTEGER NOT NULL DEFAULT 0",
        """
        UPDATE jobs SET undescribed = 1
        WHERE state = 'queued' AND json_extract(document, '$.source.kind') = 'torrent' AND json_extract(document, '$.description') IS NULL
        """,
        """
        UPDATE jobs SET engine = json_extract(document, '$.transfer.engine')
        WHERE state = 'done' AND json_extract(document, '$.seeding')
        """,
        "CREATE INDEX jobs_undescribed ON jobs (id) WHERE undescribed = 1",
    ),
    2: ("ALTER TABLE jobs ADD COLUMN hook TEXT", JOBS_UNPOSTED),
    3: (
        LIMITS,
        "ALTER TABLE jobs ADD COLUMN tier TEXT NOT NULL DEFAULT 'free'",
        "UPDATE jobs SET tier = json_extract(document, '$.tier') WHERE json_extract(document, '$.tier') <> 'free'",
        JOBS_IN_SLOT,
        "ALTER TABLE jobs ADD COLUMN unprobed INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE jobs ADD COLUMN promised INTEGER",
        "ALTER TABLE jobs ADD COLUMN out TEXT",
        "ALTER TABLE jobs ADD COLUMN short_since REAL",
        """
        UPDATE jobs SET out = json_extract(document, '$.out'), promised = CASE
            WHEN json_array_length(document, '$.select') > 0 THEN 0 ELSE coalesce(json_extract(document, '$.description.size'), 0) END
        WHERE engine IS NOT NULL AND state <> 'done' AND NOT (state = 'queued' AND json_extract(document, '$.reason') = 'space')
        """,
        *SPACE,
        # What runs now is followed from its next change on.
        *(f"ALTER TABLE jobs ADD COLUMN {name} TEXT" for name in ("holds", "follows", "content", "content2")),
        """
        UPDATE jobs SET holds = json_extract(document, '$.transfer.id')
        WHERE state NOT IN ('done', 'cancelled') OR (state = 'done' AND json_extract(document, '$.seeding'))
        """,
        *JOBS_SHARED,
    ),
    4: (
        "ALTER TABLE jobs ADD COLUMN created_at REAL NOT NULL DEFAULT 0",
        "UPDATE jobs SET created_at = json_extract(document, '$.created_at')",
        "DROP INDEX IF EXISTS jobs_by_user_and_time",
        JOBS_BY_USER_AND_TIME,
        BREAKERS,
        DRAINS,
    ),
    5: (
        "ALTER TABLE jobs ADD COLUMN torrent INTEGER NOT NULL DEFAULT 1",
        """
        UPDATE jobs SET torrent = 0
        WHERE json_extract(document, '$.source.kind') <> 'torrent' AND json_extract(document, '$.description') IS NULL
        """,
        JOBS_BY_TORRENT,
        UNNAMED,
    ),
}


def check_file(path: Path) -> None:
    """Refuse what is no SQLite file before it is touched.

    Raises:
        ValueError: says what it is not; the caller names the path.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(len(HEADER))
    if head and head != HEADER:
        raise ValueError("is not an SQLite database; choose another path")


def is_current(connection: sqlite3.Connection) -> bool:
    """True when the tables are those of this version."""
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == SCHEMA_VERSION)


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables in an empty file, and bring those of an older version up to date; call it inside a writing transaction.

    Raises:
        ValueError: the file was written by a newer version.
    """
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise ValueError(f"was written by a newer version of Haul (schema {version}, this one knows {SCHEMA_VERSION}); upgrade Haul")
    if version == SCHEMA_VERSION:
        return
    for statement in TABLES if version == 0 else chain.from_iterable(UPGRADES[step] for step in range(version, SCHEMA_VERSION)):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
