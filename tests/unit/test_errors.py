"""What went wrong, as it travels between processes."""

from __future__ import annotations

import pickle

from worker.jobs.errors import LeaseLost, Transient


def test_an_error_of_a_service_is_the_same_in_another_process() -> None:
    for error in (Transient("redis", "it is away"), LeaseLost("store", "taken over")):
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), copy.service, str(copy)) == (type(error), error.service, str(error))
