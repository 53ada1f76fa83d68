"""What the users of a chaos run ask for, drawn from its seed, and how they ask until they are answered."""

from __future__ import annotations

import base64
import hashlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.origin import Origin, content
from tests.torrents import pack, web_seeded
from worker.client import Client
from worker.jobs.errors import Transient
from worker.jobs.model import job_id

ASKERS = 6
ASK_AGAIN_S = 0.5
ANSWER_S = 15.0
SIZES = (50_000, 2_000_000)
TORRENT_SIZES = (50_000, 500_000)
RATES = (0, 100_000, 200_000, 400_000)
#: Of a third of the users each.
TIERS = ("free", "premium", "vip")
USERS = 12
#: More than any disk here has.
HOPELESS = 10**15
#: What is asked for again by somebody else was asked for at most so many wishes before, so that it is often still on its way.
NEAR = 6


@dataclass(slots=True)
class Wish:
    """One job that a user wants.

    Attributes:
        rate: bytes a second at which its source sends; 0 as fast as it can.
        engine: that is asked for.
        anywhere: no engine is asked for, so that it may go on elsewhere; `engine` is the one that fetches it alone.
        torrent: by web seed, else a file by HTTP.
        missing: there is nothing at its address, so that it has to fail.
        hopeless: it fits on no disk, and has to be refused.
        like: the number of another user's wish for the same content.
        max_speed: bytes a second its user wants it to take at most.
        action: `pause` (and resume later) or `cancel`, asked for once it runs.
        repeated: asked for a second time, under the same key.
        promised: what a door answered, once it did.
    """

    number: int
    size: int
    rate: int
    engine: str
    door: str
    anywhere: bool = False
    torrent: bool = False
    missing: bool = False
    hopeless: bool = False
    like: int | None = None
    max_speed: int | None = None
    hashed: bool = False
    action: str | None = None
    repeated: bool = False
    promised: str | None = None
    acted: list[str] = field(default_factory=list)

    @property
    def user(self) -> str:
        return f"user-{self.number % USERS}"

    @property
    def tier(self) -> str:
        """Of its user."""
        return TIERS[self.number % USERS * len(TIERS) // USERS]

    @property
    def seed(self) -> int:
        """Of its content."""
        return self.number if self.like is None else self.like

    @property
    def to_be_had(self) -> bool:
        """True when nothing is wrong with its source."""
        return not (self.missing or self.hopeless)

    @property
    def key(self) -> str:
        return f"wish-{self.number}"

    @property
    def id(self) -> str:
        """The id of its job."""
        return job_id(self.user, self.key)

    @property
    def digest(self) -> str:
        """SHA-256 of what it should get."""
        return hashlib.sha256(content(self.size, self.seed)).hexdigest()

    def name(self, prefix: str = "c") -> str:
        """The file's name; another prefix is the same file for somebody else."""
        return f"{prefix}{self.seed}.bin"

    def document(self, origin: Origin, prefix: str = "c") -> bytes:
        """Its `.torrent` file."""
        made = pack({"only": content(self.size, self.seed)}, name=self.name(prefix), single=True)
        return web_seeded(origin, made, rate=self.rate).document

    def url(self, origin: Origin, prefix: str = "c") -> str:
        """Where its file is."""
        if self.missing:
            return origin.url(f"status/404?{self.name(prefix)}")
        return origin.url(f"file/{self.name(prefix)}?size={self.size}&seed={self.seed}&rate={self.rate}")


def draw(random: random.Random, count: int) -> list[Wish]:
    """So many wishes: mostly files by HTTP, half of them on any aria2; a fifth torrents; some that cannot be had, some for the same."""
    wishes = [_draw(random, number) for number in range(count)]
    for wish in wishes:
        like = wishes[max(0, wish.number - random.randint(1, NEAR))]
        if random.random() < 0.15 and wish.to_be_had and like.to_be_had and like.like is None and like is not wish:
            wish.like, wish.size, wish.rate, wish.torrent = like.number, like.size, like.rate, like.torrent
            wish.engine, wish.anywhere = like.engine, like.anywhere
    return wishes


def _draw(random: random.Random, number: int) -> Wish:
    torrent = random.random() < 0.2
    engine = "qbittorrent" if torrent and random.random() < 0.75 else "aria2"
    low, high = TORRENT_SIZES if torrent else SIZES
    chance = random.random()
    hopeless = not torrent and 0.14 <= chance < 0.17
    return Wish(
        number,
        size=HOPELESS if hopeless else random.randint(low, high),
        rate=random.choice(RATES),
        engine=engine,
        anywhere=not torrent and random.random() < 0.5,
        door=random.choice(("intake", "intake", "api")),
        torrent=torrent,
        missing=not torrent and chance < 0.02,
        hopeless=hopeless,
        max_speed=random.choice((None, None, None, 300_000)),
        hashed=random.random() < 0.3 and not hopeless,
        action="pause" if 0.02 <= chance < 0.08 else "cancel" if 0.08 <= chance < 0.14 else None,
        repeated=random.random() < 0.1,
    )


class Users:
    """They ask, evenly over a time, each until a door has answered, as a bot has to.

    Args:
        client: goes through the intake.
        api: the address of the API.
    """

    def __init__(self, wishes: Sequence[Wish], origin: Origin, client: Client, api: str) -> None:
        self._wishes = wishes
        self._origin = origin
        self._client = client
        self._api = api
        self._stopping = False
        self._asked: set[int] = set()
        self._pool = ThreadPoolExecutor(ASKERS, "user")
        self._actors = ThreadPoolExecutor(ASKERS, "actor")

    def ask(self, share: float) -> None:
        """Let the first `share` (0 to 1) of the wishes be asked for, those that were not."""
        for wish in self._wishes[: round(share * len(self._wishes))]:
            if wish.number not in self._asked:
                self._asked.add(wish.number)
                self._pool.submit(self._until_answered, wish)

    def act(self, wish: Wish, action: str) -> None:
        """Ask for an action once; returns at once."""
        if action not in wish.acted:
            wish.acted.append(action)
            self._actors.submit(self._until_done, wish, action)

    @property
    def waiting(self) -> int:
        """Wishes that no door has answered."""
        return sum(wish.promised is None for wish in self._wishes)

    def close(self) -> None:
        """Ask no more."""
        self._stopping = True
        for pool in (self._pool, self._actors):
            pool.shutdown(cancel_futures=True)

    def _until_answered(self, wish: Wish) -> None:
        spec = self._spec(wish)
        ask = self._by_intake if wish.door == "intake" else self._by_api
        for _ in range(1 + wish.repeated):
            self._until(lambda: ask(wish, spec))

    def _until(self, attempt: Callable[[], bool]) -> None:
        while not self._stopping:
            with suppress(Transient, requests.RequestException):
                if attempt():
                    return
            time.sleep(ASK_AGAIN_S)

    def _spec(self, wish: Wish) -> dict[str, Any]:
        engine = None if wish.anywhere else wish.engine
        spec: dict[str, Any] = {"user": wish.user, "key": wish.key, "engine": engine, "tier": wish.tier, "max_speed": wish.max_speed}
        if wish.torrent:
            return {**spec, "torrent": wish.document(self._origin)}
        return {**spec, "uri": wish.url(self._origin), **({"sha256": wish.digest} if wish.hashed else {})}

    def _by_intake(self, wish: Wish, spec: dict[str, Any]) -> bool:
        wish.promised = wish.promised or self._client.enqueue(**spec).status
        return True

    def _by_api(self, wish: Wish, spec: dict[str, Any]) -> bool:
        body = {**spec, **({"torrent": base64.b64encode(spec["torrent"]).decode()} if wish.torrent else {})}
        answer = requests.post(f"{self._api}/v1/jobs", json=body, timeout=ANSWER_S)
        if answer.status_code in (200, 201):
            wish.promised = "queued"
        elif answer.status_code < 500:
            wish.promised = f"refused: {answer.status_code} {answer.text[:200]}"
        return wish.promised is not None

    def _until_done(self, wish: Wish, action: str) -> None:
        if wish.door == "intake":
            self._until(lambda: self._client.control(wish.id, action) is None)
        else:
            self._until(lambda: requests.post(f"{self._api}/v1/jobs/{wish.id}/{action}", timeout=ANSWER_S).status_code < 500)
