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
STEP_BUDGET_S = 2.0
STEP_BATCH = 100
#: A message of the intake that was read and not acknowledged for so long is read again, before all newer ones.
RECLAIM_S = 10.0
#: One intake runs at a time, for messages take effect in their order; one that died is waited for so long.
INTAKE_CLAIM_S = 12.0

assert LEASE_RENEW_S < LEASE_GIVE_UP_S < LEASE_S, "a holder stops by itself before its lease ends"
assert LEASE_GIVE_UP_S + RPC_TIMEOUT_S <= LEASE_S, "a call begun by a holder ends within its lease"
assert RECLAIM_S < INTAKE_CLAIM_S, "what a dead intake left is read again before anything newer"
assert RPC_TIMEOUT_S < SUBMIT_WINDOW_S, "a submission has time for at least one call"
