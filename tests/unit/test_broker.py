"""The channel of a worker whose broker went away."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from worker.celery.broker import Channel, Transport


@pytest.mark.parametrize("answer", ["basic_ack", "basic_reject"])
def test_an_answer_for_a_lost_connection_is_the_connections_fault_and_ends_no_worker(answer: str) -> None:
    channel = object.__new__(Channel)
    channel.connection = SimpleNamespace(client=None)
    with pytest.raises(Transport.connection_errors) as raised:
        getattr(channel, answer)("a tag")
    assert not isinstance(raised.value, BrokenPipeError), "that one is raised again by kombu"
