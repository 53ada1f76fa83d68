"""Time limits of the design, in seconds, and sizes; each relation that correctness rests on is asserted."""

from __future__ import annotations

RPC_TIMEOUT_S = 10.0
SUBMIT_WINDOW_S = 30.0
LEASE_S = 30.0
LEASE_RENEW_S = 10.0
LEASE_GIVE_UP_S = 20.0
SWEEP_S = 10.0
RECONCILE_S = 60.0
NUDGE_S = 5.0
#: A job that cannot use the room there is does not stand before those that can; it is looked at again after this time.
ASIDE_S = 2.0
#: Nobody's turn is so far from the others' that it takes them more slot seconds (for each unit of weight) to come even.
TURN_BOUND_S = 3_600.0
#: Between two admissions more time than this was no waiting.
TURN_GAP_S = 60.0
#: Without a byte for so long a download is shown as stalled.
STALLED_S = 60.0
#: In the time after which a stalled download is given up it has to get ahead by so much, or a drip would keep a slot for ever.
LEAST_BYTES = 64 * 1024
STEP_BUDGET_S = 2.0
#: From the first SIGTERM or SIGINT to the end of a process, whatever still runs then.
DRAIN_S = 30.0
#: Of these the loops of a supervisor have so many to end and to let their leases go.
LOOPS_STOP_S = 20.0
STEP_BATCH = 100
#: Each admission counts what is live anew, whatever it admits; a crash within one costs nothing but its time.
ADMIT_BATCH = 500
#: What a killed admission can keep everybody waiting for. It is renewed before the write, so a slow store does not lose it.
ADMIT_LEASE_S = 10.0
#: What one record may take; MongoDB takes no larger document, and both kinds of store are to take the same.
RECORD_BYTES_MAX = 16 * 1024 * 1024
#: A volume with less is full: it cannot take a piece of a torrent, and what needs less is not worth a try.
FREE_BYTES_MIN = 16 * 1024 * 1024
#: What stays free on every volume unless the settings say otherwise: for the records, logs and Redis, which may lie there, too.
SPACE_RESERVE_BYTES = 64 * 1024 * 1024
#: A job that has waited for space for so long is not passed any more by those that need less, for a time.
SHORT_PATIENCE_S = 300.0
#: So many of those that have waited for space longest are looked at by each admission.
SHORT_LOOK = 20
#: The others are looked at again after a quarter of the time they have waited, but at least so often.
SHORT_ASIDE_S = 30.0
#: An engine that has not answered for so long is given no jobs before one has shown that it works. A hung one is noticed by one
#: call without an answer, and a restart of a few seconds by nobody.
SILENT_S = 10.0
#: So many downloads in a row that an engine failed by its own fault are no chance.
OWN_FAULTS_MAX = 5
#: Of an engine that is tried with one job: at work for so long without a fault of its own, it works, whatever its source does.
TRIAL_S = 30.0
#: Between two looks at an engine that does not answer, at most; a restarted one is found within this time.
PROBE_S_MAX = 15.0
#: A message of the intake that was read and not acknowledged for so long is read again, before all newer ones.
RECLAIM_S = 10.0
#: One intake runs at a time, for messages take effect in their order; one that died is waited for so long.
INTAKE_CLAIM_S = 12.0
#: What the cache may take in each process unless the settings say otherwise, and on a Redis that it shares with the rest.
CACHE_BYTES = 200_000_000
CACHE_SHARED_BYTES = 64 * 1024 * 1024
#: Writes of several callers that go out in one call, unless the settings say otherwise, and what they may say: MongoDB takes 100,000.
BATCH_ITEMS = 100
BATCH_ITEMS_MAX = 10_000
#: Bytes a second that a backup reads unless the settings say otherwise: a third of what a small disk gives to downloads.
BACKUP_RATE = 32 * 1024 * 1024

assert LEASE_RENEW_S < LEASE_GIVE_UP_S < LEASE_S, "a holder stops by itself before its lease ends"
assert LEASE_GIVE_UP_S + RPC_TIMEOUT_S <= LEASE_S, "a call begun by a holder ends within its lease"
assert RPC_TIMEOUT_S < LOOPS_STOP_S < DRAIN_S, "a loop that waits for an engine ends within the drain"
assert NUDGE_S <= SWEEP_S / 2, "a sweep that found work comes again when no lost nudge keeps it back any more"
assert SILENT_S >= RPC_TIMEOUT_S, "one call that got no answer is not enough"
assert RECLAIM_S < INTAKE_CLAIM_S, "what a dead intake left is read again before anything newer"
assert FREE_BYTES_MIN <= SPACE_RESERVE_BYTES, "what is admitted leaves no volume full"
assert RPC_TIMEOUT_S < SUBMIT_WINDOW_S, "a submission has time for at least one call"
