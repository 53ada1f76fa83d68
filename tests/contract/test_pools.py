"""The connections of a process: few, counted, and its own after a fork."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from contextlib import closing
from pathlib import Path

from tests.contract.store_jobs import some_jobs, until
from tests.mongodb import with_options
from worker.celery import ProcessServices
from worker.cli.servers import Server
from worker.coordination.redis import RedisCoordinator
from worker.metrics import Metrics
from worker.settings import Settings, load
from worker.store import open_store

READERS, REST_S, READS = 60, 0.5, 4


def value(metrics: Metrics, name: str, pool: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"haul_pool_{name}", {"pool": pool, **labels}) or 0.0


def test_many_readers_who_pause_share_few_connections_and_all_of_it_is_counted(mongo_url: str) -> None:
    metrics, jobs, most = Metrics(), some_jobs(5), [0.0]
    with closing(open_store(mongo_url, profile="production", metrics=metrics)) as store:
        store.insert(jobs)

        def read(number: int) -> None:
            time.sleep(REST_S * number / READERS)
            for _ in range(READS):
                assert store.get([jobs[number % 5].id])
                most[0] = max(most[0], value(metrics, "connections", "store"))
                time.sleep(REST_S)

        readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        assert value(metrics, "wait_seconds_count", "store") >= READERS * READS
        assert value(metrics, "connections_in_use", "store") == 0
        assert 1 <= most[0] <= 40
    until(lambda: value(metrics, "connections", "store") == 0)
    assert value(metrics, "events_total", "store", outcome="opened") == value(metrics, "events_total", "store", outcome="closed") >= 1


def test_redis_connections_are_counted(valkey: Server, key_prefix: str) -> None:
    with closing(RedisCoordinator(valkey.url, prefix=key_prefix, max_connections=3)) as redis:
        assert redis.connections() == (0, 0)
        redis.ping()
        assert redis.connections() == (1, 0)


def used(services: ProcessServices) -> tuple[int, int]:
    """Use store and Redis; the process, and the object that holds its connections."""
    built = services.get()
    built.store.ping()
    built.coordinator.ping()
    return os.getpid(), id(built.store)


def test_a_forked_child_makes_connections_of_its_own_and_the_parents_go_on(
    mongo_url: str, valkey: Server, key_prefix: str, tmp_path: Path
) -> None:
    settings: Settings = load(
        data_dir=tmp_path, redis_url=valkey.url, key_prefix=key_prefix, store_url=with_options(mongo_url, "maxPoolSize=3"), engines=""
    )
    services = ProcessServices(settings, lambda _: None)
    parent = used(services)
    here, there = multiprocessing.Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            there.send(used(services))
        finally:
            os._exit(0)
    there.close()
    assert here.poll(60)
    child = here.recv()
    os.waitpid(pid, 0)
    assert child[0] == pid != parent[0]
    assert child[1] != parent[1]
    assert used(services) == parent
    services.close()
