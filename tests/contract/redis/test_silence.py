"""A Redis that hangs or is not there: each call ends in time."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.contract.coordinator_suite import Make
from tests.contract.redis.coordinators import HASTY, every_call, maker, recovered
from tests.tcp_proxy import TcpProxy
from tests.waiting import until
from worker.cli.servers import Server, free_port
from worker.jobs.errors import Transient


def test_without_a_server_every_call_is_transient_and_rest_just_waits() -> None:
    with maker(f"redis://:verysecret@127.0.0.1:{free_port()}/0", "x") as make:
        redis = make()
        start = time.monotonic()
        for call in every_call(redis):
            with pytest.raises(Transient) as caught:
                call()
            assert "verysecret" not in str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)
        assert time.monotonic() - start < 30.0
        start = time.monotonic()
        assert redis.rest("aria2", 0.3) is False
        assert 0.29 <= time.monotonic() - start < 20.0


def test_a_server_that_hangs_costs_one_time_out_and_not_one_for_each_call(own: Server, make_own: Make) -> None:
    redis = make_own(**{**HASTY, "answer_s": 0.5, "silence_s": 60.0})
    redis.ping()
    own.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    for call in every_call(redis):
        with pytest.raises(Transient):
            call()
    assert time.monotonic() - start < 0.5 * len(every_call(redis)) / 2


def test_a_call_that_timed_out_is_not_made_again(own: Server, make_own: Make) -> None:
    redis = make_own(answer_s=2.0)
    redis.ping()
    own.process.send_signal(signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(Transient):
        redis.ping()
    assert 1.9 < time.monotonic() - start < 3.9


def test_each_call_to_a_server_that_hangs_ends_in_time_and_it_works_again_after(own: Server, make_own: Make) -> None:
    for number in range(len(every_call(make_own()))):
        redis = make_own(**HASTY)
        redis.ping()
        own.process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(Transient):
            every_call(redis)[number]()
        assert time.monotonic() - start < 4.5, number
        own.process.send_signal(signal.SIGCONT)
    until(lambda: recovered(redis))


def test_a_server_that_hangs_from_the_start_is_transient_and_rest_just_waits(own: Server, make_own: Make) -> None:
    own.process.send_signal(signal.SIGSTOP)
    redis = make_own(**HASTY)
    start = time.monotonic()
    assert redis.rest("aria2", 0.1) is False
    with pytest.raises(Transient):
        make_own(**HASTY).ping()
    assert 0.09 <= time.monotonic() - start < 20.0


def test_when_one_connection_died_silently_the_idle_ones_are_not_tried_after_it(own: Server) -> None:
    host = own.url.rpartition("@")[2].partition("/")[0]
    with TcpProxy(host) as proxy, maker(own.url.replace(host, proxy.address), "own") as make, ThreadPoolExecutor(4) as pool:
        redis = make(**{**HASTY, "answer_s": 0.5})
        together = threading.Barrier(4)

        def ping(_: int) -> bool:
            together.wait(60)
            return recovered(redis)

        proxy.delay(0.1)  # so that each takes a connection of its own
        assert all(pool.map(ping, range(4)))
        proxy.black_hole()
        proxy.heal()
        assert not recovered(redis)
        until(lambda: recovered(redis))
        proxy.delay(0.1)
        assert all(pool.map(ping, range(4)))
