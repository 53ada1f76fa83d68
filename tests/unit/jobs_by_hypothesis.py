"""Jobs for tests: one by hand, and any job at all by hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from worker.jobs.events import Event, EventType
from worker.jobs.hooks import Hook
from worker.jobs.model import Job, Progress, Result, Source, SourceKind, Transfer
from worker.jobs.states import Cause, Phase, Reason, State, Want
from worker.jobs.tried import Tried

NOW = 1_700_000_000.0


def a_job(**changes: Any) -> Job:
    """A job with as little in it as can be."""
    source = Source(SourceKind.HTTP, "https://host/file")
    return Job(**{"id": "j1", "user": "u", "key": None, "source": source, "content": "c", **changes})


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
sizes = st.integers(0, 2**60)
times = st.floats(0, 1e11)
json_values = st.recursive(st.none() | st.booleans() | sizes | times | texts, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
sources = st.builds(Source, st.sampled_from(SourceKind), texts)
transfers = st.builds(Transfer, texts, texts, st.integers(1, 99), texts, times)
progresses = st.builds(Progress, sizes, st.none() | sizes, sizes, sizes, sizes)
results = st.builds(Result, texts, sizes, st.none() | texts)
events = st.builds(
    Event, st.integers(1, 999), times, texts, st.none() | st.sampled_from(EventType), st.dictionaries(texts, json_values, max_size=3)
)
hooks = st.builds(Hook, texts, texts, st.integers(0, 999), st.integers(0, 99), times, times)
jobs = st.builds(
    Job,
    id=texts,
    user=texts,
    key=st.none() | texts,
    source=sources,
    content=texts,
    tier=texts,
    priority=sizes,
    name=st.none() | texts,
    out=st.none() | texts,
    sha256=st.none() | texts,
    hash_wanted=st.booleans(),
    engine=st.none() | texts,
    select=st.lists(st.integers(1, 100_000), max_size=5).map(tuple),
    seed_ratio=st.none() | times,
    category=st.none() | texts,
    guarded=st.booleans(),
    state=st.sampled_from(State),
    version=st.integers(1, 10_000),
    phase=st.none() | st.sampled_from(Phase),
    reason=st.none() | st.sampled_from(Reason),
    cause=st.none() | st.sampled_from(Cause),
    message=st.none() | texts,
    want=st.sampled_from(Want),
    transfer=st.none() | transfers,
    attempt=st.integers(1, 99),
    failures=st.integers(0, 99),
    not_before=times,
    progress=progresses,
    result=st.none() | results,
    seeding=st.booleans(),
    events=st.lists(events, max_size=4).map(tuple),
    sent=st.integers(0, 999),
    hook=st.none() | hooks,
    created_at=times,
    updated_at=times,
    max_speed=st.none() | sizes,
    avoid=st.lists(texts, max_size=3).map(tuple),
    tried=st.lists(st.builds(Tried, texts, st.sampled_from(Cause), texts, st.integers(1, 99), sizes), max_size=3).map(tuple),
    phase_at=times,
    engine_deaths=st.integers(0, 9),
    trial_s=times,
)
