"""What a guarded job would reach, looked at before an engine gets it: each name resolved, each redirect followed, each mirror judged.

This holds what is so at that moment. An engine resolves names and follows redirects again, by itself: `haul health` says what
risk is left. Where the kernel guards the engines (`HAUL_EGRESS`) none is, and nothing is held back here for want of an answer.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field, replace
from ipaddress import ip_address
from typing import Any

from worker import logs
from worker.admission import egress
from worker.admission.ask import ask
from worker.admission.fetch import fetch
from worker.admission.line import UNRESOLVED, Networks, Refused
from worker.jobs import links
from worker.jobs.content import has_login
from worker.jobs.errors import Rejected
from worker.jobs.events import EventType
from worker.jobs.metalinks import METALINK_BYTES_MAX, SIZE, read_metalink
from worker.jobs.model import Job, SourceKind
from worker.jobs.needs import tells_size
from worker.jobs.probe import Probe
from worker.jobs.retries import POLICIES, span, spread
from worker.jobs.states import Cause, Reason, State
from worker.ports import Fault, Services
from worker.reads import Reads
from worker.settings import Settings

#: Names of one job that are resolved at the same time, and how long all of them are waited for.
THREADS = 8
RESOLVE_S = 4.0
#: Hosts that a line of the timeline names.
HOSTS_SHOWN_MAX = 3

log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found out about a job's source.

    Attributes:
        fault: why the job may not go on, for now or at all.
        unanswered: why the source did not tell its size, which keeps nobody back, unless it wants to be left alone.
        fields: of the job, changed: what it names, without what it may not reach.
        text: for its timeline.
    """

    probe: Probe = Probe()  # noqa: RUF009 - it is frozen
    fault: Fault | None = None
    unanswered: Fault | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None


def seen(services: Services, job: Job, *, silent: bool = False) -> Seen:
    """Ask an http or https source for its size, and judge every host that a guarded job names.

    A source that may not be reached is refused. Trackers and mirrors whose names lead into private networks, as those of blocked
    ones do, are left out. What cannot be resolved now goes to no engine: it might be told something else.

    Args:
        silent: its server lets questions wait, so it is not asked.
    """
    settings = services.settings
    allowed = settings.allow_networks if job.guarded else None
    checked = settings.checks and allowed is not None
    if job.source.kind is SourceKind.HTTP and settings.probes and not silent:
        probe, fault = _told(services, job, allowed)
        stops = fault is not None and (fault.cause is Cause.REFUSED or (checked and fault == UNRESOLVED))
        return Seen(probe, fault if stops else None, None if stops else fault)
    if job.source.kind is SourceKind.METALINK and (checked or (settings.probes and tells_size(job.source) and not silent)):
        return _metalink(job, allowed, checked=checked)
    if allowed is None or not checked:
        return Seen()
    if job.source.kind is SourceKind.MAGNET:
        return _magnet(job, allowed)
    if job.source.kind is SourceKind.TORRENT:
        return _torrent(services, job, allowed)
    return Seen(fault=_fault_of([job.source.uri], allowed))


class _Unkept(Exception):
    """An answer that is good for this once."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


def _told(services: Services, job: Job, allowed: Networks | None) -> tuple[Probe, Fault | None]:
    """What the source says, asked now or some seconds ago for another job that may reach the same.

    One that went wrong, wants to be left alone or may not be reached is asked each time, and so is each job that was tried before.
    """
    uri = job.source.uri

    def load() -> dict[str, Any] | None:
        probe, fault = ask(uri, allowed)
        if fault is not None:
            raise _Unkept(fault)
        return asdict(probe) if probe != Probe() else None

    if job.tried or job.failures:
        return ask(uri, allowed)
    user = job.user if has_login(job.source) else None
    networks = None if allowed is None else [str(network) for network in allowed]
    try:
        said = Reads(services.cache).probe(uri, (networks, user), load)
    except _Unkept as once:
        return Probe(), once.fault
    return (Probe(**said) if said else Probe()), None


def after(job: Job, found: Seen, at: float, now: float) -> Job:
    """The job after it was looked at: it waits for its turn, or to be looked at again, or has failed, by cause.

    Args:
        at: wall clock.
        now: the store's clock.
    """
    fault = found.fault
    if fault is None or (fault.passing and job.tried):
        return _goes_on(job, found, at, now)
    policy = POLICIES[fault.cause]
    if fault.passing and job.failures < policy.tries:
        wait_s = policy.backoff_s(job.failures)
        text = f"{fault.detail}; it is looked at again in {wait_s:.0f} s"
        return job.noted(at, text, reason=Reason.PROBE, message=fault.detail, failures=job.failures + 1, not_before=now + wait_s)
    text, data = f"failed: {fault.detail}", {"cause": str(fault.cause), "reason": fault.detail}
    return job.moved(State.FAILED, at, text, event=EventType.FAILED, data=data, cause=fault.cause, message=fault.detail, reason=None)


def _goes_on(job: Job, found: Seen, at: float, now: float) -> Job:
    """It waits for its turn, or as long as its source wants to be left alone.

    One that comes back from an engine, which found the source too busy, keeps the time that was set for it.
    """
    busy = found.unanswered if found.unanswered is not None and found.unanswered.cause is Cause.BUSY else None
    probe = job.probe if job.probe is not None and found.probe == Probe() else found.probe
    wait_s = spread(busy.retry_after_s or 0.0) if busy else 0.0
    if busy and wait_s and now + wait_s > job.not_before:
        text = f"{busy.detail} and wants to be left alone: tried in {span(wait_s)}"
        waits: dict[str, Any] = {"reason": Reason.SCHEDULE, "message": busy.detail, "not_before": now + wait_s}
        return job.noted(at, text, probe=probe, **waits, **found.fields)
    if job.tried:
        return job.noted(at, probe=probe, reason=Reason.SCHEDULE if job.not_before > now else Reason.TURN)
    again: Mapping[str, Any] = {"failures": 0, "not_before": 0.0, "message": None} if job.not_before else {}
    return job.noted(at, found.text, probe=probe, reason=Reason.TURN, **{**again, **found.fields})


def kinds(hosts: Collection[str], allowed: Networks, wait_s: float = RESOLVE_S) -> dict[str, str | None]:
    """What each host leads to that may not be reached, if only by one of its addresses, or None; hosts that do not resolve are absent."""
    pool = ThreadPoolExecutor(min(THREADS, max(1, len(hosts))), thread_name_prefix="names")
    try:
        asked = {pool.submit(_kind, host, allowed): host for host in hosts}
        return {asked[done]: done.result() for done in wait(asked, wait_s).done if done.exception() is None}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _kind(host: str, allowed: Networks) -> str | None:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    return next(filter(None, (egress.refused_kind(address, allowed) for address in addresses)), None)


def _hosts(uris: Collection[str]) -> set[str]:
    return {host for uri in uris if (host := egress.linked_host(uri)) is not None}


def _fault_of(uris: Collection[str], allowed: Networks) -> Fault | None:
    """The fault of sources of which each has to be reachable; None when all may be reached."""
    hosts = _hosts(uris)
    found = kinds(hosts, allowed)
    if kind := next(filter(None, found.values()), None):
        return Fault(Cause.REFUSED, False, f"the server's address is in a private network ({kind})")
    return UNRESOLVED if len(found) < len(hosts) else None


def _metalink(job: Job, allowed: Networks | None, *, checked: bool) -> Seen:
    """The sizes of its files are what the job needs; what it names is judged, if it is to be. A size that kills aria2 is refused."""
    document = fetch(job.source.uri, METALINK_BYTES_MAX, allowed)
    if isinstance(document, Fault):
        stops = checked or document.cause is Cause.REFUSED
        return Seen(fault=document) if stops else Seen(unanswered=document)
    try:
        size = read_metalink(document).total(job.select)
    except Rejected as refused:
        stops = checked or refused.field == SIZE  # what else is wrong with it, its engine tells the owner
        return Seen(fault=Fault(Cause.REFUSED, False, refused.detail) if stops else None)
    return Seen(Probe(size), _mirrors(document, allowed) if checked and allowed is not None else None)


def _mirrors(document: bytes, allowed: Networks) -> Fault | None:
    try:
        uris = links.of_metalink(document)
        egress.check_linked(uris, allowed, "uri")
    except Rejected as refused:
        return Fault(Cause.REFUSED, False, f"the metalink names a mirror: {refused.detail}")
    fault = _fault_of(uris, allowed)
    return None if fault == UNRESOLVED else fault  # a mirror that is gone is one of several


def _magnet(job: Job, allowed: Networks) -> Seen:
    private = _private(links.of_magnet(job.source.uri), allowed)
    if not private:
        return Seen()
    uri = links.magnet_without(job.source.uri, _among(private))
    return Seen(fields={"source": replace(job.source, uri=uri)}, text=_left_out(private))


def _torrent(services: Services, job: Job, allowed: Networks) -> Seen:
    name = job.description.document if job.description else ""
    document = services.store.torrents([name]).get(name)
    if document is None or job.description is None:
        return Seen()
    private = _private(links.of_torrent(document), allowed)
    if not private:
        return Seen()
    kept = services.store.keep_torrent(links.torrent_without(document, _among(private)))
    return Seen(fields={"description": replace(job.description, document=kept)}, text=_left_out(private))


def judged(document: bytes, settings: Settings) -> bytes:
    """A `.torrent` file that was fetched for a guarded job, without the trackers and mirrors that it may not reach.

    Raises:
        Refused: one of them is written as a private address.
    """
    try:
        egress.check_linked(uris := links.of_torrent(document), settings.allow_networks, "torrent")
    except Rejected as refused:
        raise Refused(Fault(Cause.REFUSED, False, f"the .torrent file names a tracker or mirror: {refused.detail}")) from None
    private = _private(uris, settings.allow_networks) if settings.checks else set()
    if private:
        log.info(_left_out(private))
    return links.torrent_without(document, _among(private)) if private else document


def _private(uris: Collection[str], allowed: Networks) -> set[str]:
    names = {host for host in _hosts(uris) if not egress.literals(host)}
    return {host for host, kind in kinds(names, allowed).items() if kind}


def _among(hosts: Collection[str]) -> Callable[[str], bool]:
    return lambda uri: egress.linked_host(uri) in hosts


def _left_out(hosts: Collection[str]) -> str:
    shown = ", ".join(sorted(hosts)[:HOSTS_SHOWN_MAX])
    more = f" and {len(hosts) - HOSTS_SHOWN_MAX} more" if len(hosts) > HOSTS_SHOWN_MAX else ""
    return f"trackers or mirrors at {shown}{more} are left out: their names lead into private networks"
