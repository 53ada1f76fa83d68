"""Every query of the SQLite store. Each goes by an index, which a test asks SQLite itself."""

from __future__ import annotations

from worker.jobs.states import IN_SLOT, TERMINAL, State
from worker.store import bounded

_JOB = "SELECT jobs.seq, jobs.document, jobs.sent, progress.document, jobs.hook FROM jobs LEFT JOIN progress USING (seq)"
_TERMINAL = ", ".join(f"'{state}'" for state in sorted(TERMINAL))
_IN_SLOT = ", ".join(f"'{state}'" for state in sorted(IN_SLOT))

# ---- meta ----
ANCHOR = f"SELECT boot, offset, max(latest, (SELECT coalesce(max(until), 0) FROM leases)) FROM meta WHERE one = 1 /* {bounded.LEASES} */"  # noqa: S608
SET_ANCHOR = "UPDATE meta SET boot = :boot, offset = :offset WHERE one = 1"
#: Begins every write.
STAMP = "UPDATE meta SET latest = max(latest, :now), changes = changes + :changes WHERE one = 1"
CHANGES = "SELECT changes FROM meta WHERE one = 1"

# ---- jobs: writes ----
INSERT = """
    INSERT INTO jobs (id, user, state, version, changed, event, sent, engine, needs_owner, undescribed, unprobed, promised, out,
        short_since, document, hook, tier, holds, follows, content, content2, created_at, torrent)
    VALUES (:id, :user, :state, :version, :changed, :event, :sent, :engine, :needs_owner, :undescribed, :unprobed, :promised, :out,
        :short_since, :document, :hook, :tier, :holds, :follows, :content, :content2, :created_at, :torrent)
    ON CONFLICT (id) DO NOTHING
"""
APPLY = """
    UPDATE jobs SET state = :state, version = :version, changed = :changed, event = :event, sent = max(sent, :sent),
        engine = :engine, needs_owner = :needs_owner, undescribed = :undescribed, unprobed = :unprobed, promised = :promised,
        out = :out, short_since = :short_since, document = :document, holds = :holds,
        follows = :follows, content = :content, content2 = :content2, torrent = max(torrent, :torrent)
    WHERE id = :id AND version = :old_version AND state = :old_state
"""
SET_PROGRESS = f"""
    INSERT INTO progress (seq, document)
    SELECT seq, :document FROM jobs WHERE id = :id AND state NOT IN ({_TERMINAL}) AND engine IS coalesce(:engine, engine)
    ON CONFLICT (seq) DO UPDATE SET document = excluded.document
"""  # noqa: S608 - all that is put together in this module are its own constants
FIRST_PROGRESS = "INSERT INTO progress (seq, document) SELECT seq, :document FROM jobs WHERE id = :id"
MARK_SENT = "UPDATE jobs SET sent = :sent WHERE id = :id AND sent < :sent"
MARK_POSTED = """
    UPDATE jobs SET hook = :hook
    WHERE id = :id AND (json_extract(hook, '$.sent'), json_extract(hook, '$.failures')) < (:sent, :failures)
"""
REMOVE = f"""
    DELETE FROM jobs WHERE id = :id AND version = :version AND state = :state AND state IN ({_TERMINAL})
        AND event <= sent AND (hook IS NULL OR event <= json_extract(hook, '$.sent'))
    RETURNING seq
"""  # noqa: S608
REMOVE_PROGRESS = "DELETE FROM progress WHERE seq = :seq"

# ---- jobs: reads ----
GET = f"{_JOB} WHERE jobs.id IN (SELECT value FROM json_each(:ids))"  # noqa: S608
AT_ENGINE = f"{_JOB} WHERE jobs.engine = :engine /* {bounded.AT_ENGINE} */"
NEEDING_OWNER = f"{_JOB} WHERE jobs.engine = :engine AND jobs.needs_owner = 1 ORDER BY jobs.changed LIMIT :limit"
IN_STATE = f"{_JOB} WHERE jobs.state = :state AND jobs.id > :after ORDER BY jobs.id LIMIT :limit"
UNDESCRIBED = f"{_JOB} WHERE jobs.undescribed = 1 AND jobs.id > :after ORDER BY jobs.id LIMIT :limit"
UNPROBED = f"{_JOB} WHERE jobs.unprobed = 1 AND jobs.id > :after ORDER BY jobs.id LIMIT :limit"
SHORT_OF_SPACE = f"{_JOB} WHERE jobs.short_since IS NOT NULL ORDER BY jobs.short_since LIMIT :limit"
FINISHED = (
    " UNION ALL ".join(f"{_JOB} WHERE jobs.state = '{state}' AND jobs.seq > :after" for state in sorted(TERMINAL))
    + " ORDER BY 1 LIMIT :limit"
)
_EXPECTED = "coalesce(json_extract(progress.document, '$.total'), jobs.promised)"
PROMISED = f"""
    SELECT jobs.engine, jobs.out, sum(max(0, {_EXPECTED} - coalesce(json_extract(progress.document, '$.allocated'), 0))), sum({_EXPECTED})
    FROM jobs INDEXED BY jobs_promised LEFT JOIN progress USING (seq)
    WHERE jobs.promised IS NOT NULL GROUP BY jobs.engine, jobs.out
"""  # noqa: S608
HOLDING = f"{_JOB} WHERE jobs.holds IN (SELECT value FROM json_each(:ids)) /* {bounded.HOLDERS} */"  # noqa: S608
FOLLOWING = f"{_JOB} WHERE jobs.follows IN (SELECT value FROM json_each(:ids)) LIMIT :limit"  # noqa: S608
SHARING = f"""
    {_JOB}
    WHERE jobs.content IN (SELECT value FROM json_each(:ids)) OR jobs.content2 IN (SELECT value FROM json_each(:ids))
    /* {bounded.HOLDERS} */
"""  # noqa: S608
FOLLOWED = "SELECT follows, count(*) FROM jobs INDEXED BY jobs_following WHERE follows IS NOT NULL GROUP BY follows"
UNSENT = f"{_JOB} WHERE jobs.event > jobs.sent ORDER BY jobs.changed LIMIT :limit"
UNPOSTED = f"""
    {_JOB}
    WHERE json_extract(jobs.hook, '$.receiver') = :receiver AND json_extract(jobs.hook, '$.not_before') <= :now
        AND jobs.event > json_extract(jobs.hook, '$.sent')
    ORDER BY json_extract(jobs.hook, '$.not_before'), jobs.changed LIMIT :limit
"""
COUNTS_OF = "SELECT state, count(*) FROM jobs WHERE state IN (SELECT value FROM json_each(:states)) GROUP BY state"
COUNTS = "SELECT state, count(*) FROM jobs GROUP BY state"
ENGINE_COUNTS = f"""
    SELECT engine, count(*) FROM jobs INDEXED BY jobs_at_engine WHERE engine IS NOT NULL AND state IN ({_IN_SLOT}) GROUP BY engine
"""  # noqa: S608
USER_COUNTS = """
    SELECT user, state, count(*) FROM jobs
    WHERE user IN (SELECT value FROM json_each(:users)) AND state IN (SELECT value FROM json_each(:states)) GROUP BY user, state
"""
#: A job that has ended counts what it got; any other what it is expected to have, or has by now.
USER_BYTES = """
    SELECT jobs.user, sum(CASE jobs.state
        WHEN 'done' THEN json_extract(jobs.document, '$.result.size')
        WHEN 'failed' THEN coalesce(json_extract(progress.document, '$.done'), 0)
        WHEN 'cancelled' THEN coalesce(json_extract(progress.document, '$.done'), 0)
        ELSE max(
            coalesce(json_extract(progress.document, '$.total'), 0),
            coalesce(json_extract(progress.document, '$.done'), 0),
            coalesce(json_extract(jobs.document, '$.probe.size'), 0),
            iif(json_array_length(jobs.document, '$.select') > 0, 0, coalesce(json_extract(jobs.document, '$.description.size'), 0))
        ) END)
    FROM jobs INDEXED BY jobs_by_user_and_time LEFT JOIN progress USING (seq)
    WHERE jobs.user IN (SELECT value FROM json_each(:users)) AND jobs.created_at >= :since GROUP BY jobs.user
"""

# ---- limits ----
LIMITS = f"SELECT name, value FROM limits /* {bounded.SETTINGS} */"  # noqa: S608
SET_LIMIT = "INSERT INTO limits (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
DROP_LIMIT = "DELETE FROM limits WHERE name = :name"
SLOT_COUNTS = f"SELECT user, tier, count(*) FROM jobs INDEXED BY jobs_in_slot WHERE state IN ({_IN_SLOT}) GROUP BY user, tier"  # noqa: S608
SLOT_URIS = f"SELECT json_extract(document, '$.source.uri') FROM jobs INDEXED BY jobs_in_slot WHERE state IN ({_IN_SLOT})"  # noqa: S608

# ---- breakers ----
BREAKERS = f"SELECT engine, document FROM breakers /* {bounded.ENGINES} */"  # noqa: S608
KEEP_BREAKER = (
    "INSERT INTO breakers (engine, document) VALUES (:engine, :document) ON CONFLICT (engine) DO UPDATE SET document = excluded.document"
)
# ---- engines ----
DRAINS = f"SELECT engine, document FROM drains /* {bounded.ENGINES} */"  # noqa: S608
SET_DRAIN = (
    "INSERT INTO drains (engine, document) VALUES (:engine, :document) ON CONFLICT (engine) DO UPDATE SET document = excluded.document"
)
DROP_DRAIN = "DELETE FROM drains WHERE engine = :engine"
ENGINE_STATES = "SELECT engine, state, count(*) FROM jobs INDEXED BY jobs_at_engine WHERE engine IS NOT NULL GROUP BY engine, state"

# ---- torrents ----
KEEP_TORRENT = "INSERT INTO torrents (id, document) VALUES (:id, :document) ON CONFLICT (id) DO NOTHING"
TORRENTS = "SELECT id, document FROM torrents WHERE id IN (SELECT value FROM json_each(:ids))"
#: A plus takes the column's affinity away, with which no index on an expression is gone by.
_NAMED = "EXISTS (SELECT 1 FROM jobs WHERE torrent = 1 AND json_extract(jobs.document, '$.description.document') = +torrents.id)"
TORRENTS_LOOKED_AT = f"""
    SELECT torrents.id, unnamed.since, {_NAMED} FROM torrents LEFT JOIN unnamed USING (id)
    WHERE torrents.id > :after ORDER BY torrents.id LIMIT :limit
"""  # noqa: S608
NOTE_UNNAMED = f"""
    INSERT INTO unnamed (id, since)
    SELECT id, :now FROM torrents WHERE id IN (SELECT value FROM json_each(:ids)) AND NOT {_NAMED}
    ON CONFLICT (id) DO NOTHING
"""  # noqa: S608
FORGET_TORRENTS = f"""
    DELETE FROM torrents WHERE id IN (SELECT value FROM json_each(:ids)) AND NOT {_NAMED}
        AND EXISTS (SELECT 1 FROM unnamed WHERE unnamed.id = torrents.id AND since < :before)
"""  # noqa: S608
DROP_NOTE = "DELETE FROM unnamed WHERE id = :id"
#: Also that of a file which a restore has taken away.
DROP_NOTES = """
    DELETE FROM unnamed
    WHERE id IN (SELECT value FROM json_each(:ids)) AND NOT EXISTS (SELECT 1 FROM torrents WHERE torrents.id = unnamed.id)
"""

# ---- leases ----
LEASE = "SELECT owner, token, until FROM leases WHERE name = :name"
SET_LEASE = """
    INSERT INTO leases (name, owner, token, until) VALUES (:name, :owner, :token, :until)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, token = excluded.token, until = excluded.until
"""

# ---- runs ----
CLAIM_RUN = """
    INSERT INTO runs (name, slot, owner, started_at) VALUES (:name, :slot, :owner, :now) ON CONFLICT (name, slot) DO NOTHING
"""
KEEP_RUN = """
    INSERT INTO runs (name, slot, owner, started_at, ended_at, ok, report)
    VALUES (:name, :slot, :owner, :started_at, :ended_at, :ok, :report)
    ON CONFLICT (name, slot) DO NOTHING
"""
END_RUN = "UPDATE runs SET ended_at = :now, ok = :ok, report = :report WHERE name = :name AND slot = :slot AND ended_at IS NULL"
DROP_RUNS = """
    DELETE FROM runs WHERE name = :name AND (:before IS NULL OR started_at < :before)
        AND seq <= (SELECT seq FROM runs WHERE name = :name ORDER BY seq DESC LIMIT 1 OFFSET :keep)
"""
_RUN = "SELECT name, slot, owner, started_at, ended_at, ok, report FROM runs"
RUNS = f"{_RUN} ORDER BY seq DESC LIMIT :limit"
RUNS_OF = f"{_RUN} WHERE name = :name ORDER BY seq DESC LIMIT :limit"
LATEST_RUNS = """
    SELECT runs.name, slot, owner, started_at, ended_at, ok, report, seq FROM json_each(:names) CROSS JOIN runs
    ON runs.seq IN (SELECT seq FROM runs WHERE name = json_each.value ORDER BY seq DESC LIMIT :limit)
"""


def page(states: frozenset[State] | None, *, of_user: bool) -> str:
    """The query of a page: one arm a state, each in the order of an index, merged by SQLite without sorting."""
    if states is None and not of_user:
        return f"{_JOB} WHERE jobs.seq < :before ORDER BY jobs.seq DESC LIMIT :limit"
    user = "jobs.user = :user AND " if of_user else ""
    arms = [f"{_JOB} WHERE {user}jobs.state = '{state}' AND jobs.seq < :before" for state in sorted(states or State)]
    return " UNION ALL ".join(arms) + " ORDER BY 1 DESC LIMIT :limit"
