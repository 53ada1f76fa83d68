"""The limits in force: what the file of tiers says, what was set at run time, and what is wrong with either."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.jobs.errors import Transient
from worker.jobs.limits import WrongLimit, of_text, override_key
from worker.jobs.tiers import DEFAULTS, Bucket, Limits, Overall
from worker.jobs.tiers_file import extended, parse
from worker.settings import SettingsError, load
from worker.store.sqlite.store import SqliteStore
from worker.tiers import LOOK_EVERY_S, LiveTiers, check_file

# ---- the file ----------------------------------------------------------------------------------------------------


def test_a_file_changes_what_it_names_and_nothing_else() -> None:
    limits = parse('[tiers.free]\nrate = 2.5\nlargest_file = "2 GiB"\n[tiers.gold]\nweight = 3\n[global]\nqueued = 9\n')
    assert (limits.of("free", "ann").rate, limits.of("free", "ann").largest_file) == (2.5, 2 << 30)
    assert limits.of("free", "ann").burst == DEFAULTS["free"].burst
    assert (limits.of("gold", "ann").name, limits.of("gold", "ann").weight) == ("gold", 3)
    assert limits.of("vip", "ann") == DEFAULTS["vip"]
    assert limits.overall == Overall(queued=9)


def test_a_user_may_have_limits_of_his_own_in_any_tier() -> None:
    limits = parse('[users."ann b"]\nrunning = 1\nbytes_a_day = "none"\n[tiers.free]\nbytes_a_day = 5\n')
    assert (limits.of("free", "ann b").running, limits.of("free", "ann b").bytes_a_day) == (1, None)
    assert (limits.of("vip", "ann b").running, limits.of("vip", "ann b").weight) == (1, 4)
    assert (limits.of("free", "bob").running, limits.of("free", "bob").bytes_a_day) == (None, 5)


@pytest.mark.parametrize(
    ("text", "size"), [("1", 1), ("2 GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 KiB", 1536), ("7 B", 7), ("1 TiB", 1 << 40)]
)
def test_a_size_is_bytes_or_a_text(text: str, size: int) -> None:
    assert of_text("tiers", "largest_file", text, "") == size
    assert parse(f'[tiers.free]\nlargest_file = "{text}"').of("free", "").largest_file == size


def test_a_bandwidth_may_say_that_it_is_a_second() -> None:
    assert parse('[tiers.free]\nbandwidth = "10 MiB/s"').of("free", "").bandwidth == 10 << 20


WRONG = {
    "[tiers.free]\nrate = -1": ("line 2, tiers.free.rate", "more than 0"),
    "[tiers.free]\nrate = 0": ("line 2, tiers.free.rate", "more than 0"),
    "[tiers.free]\nrate = nan": ("line 2, tiers.free.rate", "is not a number"),
    "[tiers.free]\nrate = '5'": ("line 2, tiers.free.rate", "without quotes"),
    "[tiers.free]\nburst = 0.5": ("line 2, tiers.free.burst", "from 1 to"),
    "[tiers.free]\nburst = 'none'": ("line 2, tiers.free.burst", "from 1 to"),
    "[tiers.free]\n\n# a\nweight = 0": ("line 4, tiers.free.weight", "from 1 to 1000"),
    "[tiers.free]\nweight = 1.5": ("line 2, tiers.free.weight", "whole number"),
    "[tiers.free]\nrunning = true": ("line 2, tiers.free.running", "whole number"),
    "[tiers.free]\nqueued = -3": ("line 2, tiers.free.queued", "whole number"),
    "[tiers.free]\nbytes_a_day = '2 Gib'": ("line 2, tiers.free.bytes_a_day", '"2 GiB"'),
    "[tiers.free]\nlargest_file = '1 GiB/s'": ("line 2, tiers.free.largest_file", '"2 GiB"'),
    "[tiers.free]\nlargest_file = [\n1,\n2]": ("line 2, tiers.free.largest_file", '"2 GiB"'),
    "[tiers.free]\nrunnin = 3": ("line 2, tiers.free.runnin", "did you mean running?"),
    "[tiers.vip]\nrate = 1\n[tiers.free]\nname = 'x'": ("line 4, tiers.free.name", "one of: rate, burst"),
    "[global]\nweight = 2": ("line 2, global.weight", "one of: rate, burst, running, queued"),
    "[users.ann]\nrunning = 0": ("line 2, users.ann.running", "from 1 to"),
    '[users."a b.c"]\nrunning = 0': ("line 2, users.a b.c.running", "from 1 to"),
    "tiers.free.rate = 'x'": ("line 1, tiers.free.rate", "without quotes"),
    "[tiers]\nvip = {rate = 5}\nfree = {rate = 1, weight = 0}": ("line 3, tiers.free.weight", "from 1 to"),
    "[tier.free]\nrate = 1": ("line 1, tier", "did you mean tiers?"),
    "rate = 5": ("line 1, rate", "one of: tiers.NAME, users.NAME, global"),
    "\ntiers = 3": ("line 2, tiers", "[tiers.NAME]"),
    "[tiers]\nfree = 3": ("line 2, tiers.free", "[tiers.NAME]"),
    "[[tiers.free]]\nrate = 1": ("line 1, tiers.free", "[tiers.NAME]"),
    "[tiers.'a/b']\nrate = 1": ("line 1, tiers.a/b", "letters"),
    "[tiers.free\nrate = 1": ("line 1", "is not TOML"),
    "[tiers.free]\nrate = 1\nburst": ("line 3", "is not TOML"),
    "[tiers.free]\nrate = 1\nrate = 2": ("line 3", "is not TOML"),
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_named_by_line_and_field_with_its_fix(text: str) -> None:
    where, fix = WRONG[text]
    with pytest.raises(WrongLimit) as wrong:
        parse(text)
    assert str(wrong.value).startswith(f"{where}: ")
    assert fix in str(wrong.value)


# ---- what was set at run time ------------------------------------------------------------------------------------


def test_what_was_set_at_run_time_stands_upon_the_file() -> None:
    base = parse("[tiers.free]\nrate = 5\nrunning = 2\n[users.ann]\nrunning = 3")
    limits, faults = extended(
        base,
        {
            override_key("tiers", "rate", "free"): 50,
            override_key("users", "running", "b/ob"): 1,
            override_key("users", "queued", "ann"): None,
            override_key("global", "rate"): 7.5,
        },
    )
    assert faults == []
    assert (limits.of("free", "x").rate, limits.of("free", "x").running) == (50, 2)
    assert limits.of("free", "b/ob").running == 1
    assert (limits.of("free", "ann").running, limits.of("free", "ann").queued) == (3, None)
    assert limits.overall.rate == 7.5
    assert base.of("free", "b/ob").running == 2, "the base stays as it is"


def test_what_nobody_can_read_is_left_out_alone() -> None:
    limits, faults = extended(Limits(), {"tiers/colour/free": 1, "tiers/rate/free": 2, "nonsense": 3, "tiers/weight/free": 0})
    assert limits.of("free", "").rate == 2
    assert limits.of("free", "").weight == 1
    assert len(faults) == 3


# ---- buckets -----------------------------------------------------------------------------------------------------


def test_a_start_takes_of_everybody_s_bucket_the_tier_s_and_the_user_s_own() -> None:
    limits = parse("[tiers.free]\nrate = 5\nburst = 6\n[users.ann]\nrate = 1\n[global]\nrate = 9\nburst = 10\n")
    tier, everybody = Bucket("start:tier:free", 5, 6), Bucket("start:all", 9, 10)
    assert limits.starts("free", "bob") == (everybody, tier)
    assert limits.starts("free", "ann") == (everybody, tier, Bucket("start:user:ann", 1, 6))
    assert limits.starts("gone", "bob") == (everybody, tier), "a tier that is gone counts as free"


def test_the_machine_s_owner_has_no_bucket() -> None:
    assert Limits().starts("admin", "owner") == ()
    assert Limits().requests("admin", "owner") == ()
    assert Limits().requests("free", "ann") == (Bucket("request:user:ann", 100, 500),)


# ---- live --------------------------------------------------------------------------------------------------------


class Live:
    """A file of tiers, a store, and a clock moved by hand."""

    def __init__(self, directory: Path) -> None:
        self.path, self.now, self.asked = directory / "tiers.toml", 0.0, 0
        self.store = SqliteStore(directory / "haul.db")
        self.write("[tiers.free]\nrate = 1\n")
        self.tiers = LiveTiers(self.path, self.store, lambda: self.now)
        self.down = False
        self._limits = self.store.limits
        self.store.limits = self._asked  # type: ignore[method-assign]

    def write(self, text: str) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(self.path)

    def rate(self, after_s: float = LOOK_EVERY_S) -> float | None:
        self.now += after_s
        self.tiers.fresh()
        return self.tiers.of("free", "ann").rate

    def _asked(self) -> dict[str, Any]:
        self.asked += 1
        if self.down:
            raise Transient("store", "is away")
        return self._limits()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    live = Live(tmp_path)
    yield live
    live.store.close()


def test_a_changed_file_is_in_force_within_two_seconds(live: Live) -> None:
    assert live.rate() == 1
    live.write("[tiers.free]\nrate = 2\n")
    assert live.rate(LOOK_EVERY_S - 0.1) == 1
    assert live.rate(0.1) == 2


def test_a_file_of_the_same_size_written_in_place_is_seen(live: Live) -> None:
    assert live.rate() == 1
    status = live.path.stat()
    live.path.write_text("[tiers.free]\nrate = 3\n")
    os.utime(live.path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert live.rate() == 3


def test_what_was_set_at_run_time_is_in_force_within_two_seconds_and_goes_before_the_file(live: Live) -> None:
    assert live.rate() == 1
    live.store.set_limits({override_key("tiers", "rate", "free"): 50})
    assert live.rate() == 50
    live.store.set_limits({}, drop=[override_key("tiers", "rate", "free")])
    assert live.rate() == 1


@pytest.mark.parametrize("wrong", ["[tiers.free]\nweight = 0\n", "[tiers.free", "[tiers.free]\nrat = 3\n"])
def test_a_bad_change_leaves_the_old_limits_in_force_and_is_told_once(live: Live, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    live.rate()
    live.write(wrong)
    assert [live.rate() for _ in range(5)] == [1] * 5
    assert live.tiers.fault is not None
    assert f"HAUL_TIERS: {live.path}, line " in live.tiers.fault
    assert capsys.readouterr().out.count("limits cannot be read; those before stay in force") == 1
    live.write("[tiers.free]\nrate = 4\n")
    assert live.rate() == 4
    assert live.tiers.fault is None


def test_a_file_that_is_gone_leaves_the_old_limits_in_force(live: Live) -> None:
    live.rate()
    live.path.unlink()
    assert live.rate() == 1
    assert live.tiers.fault is not None
    live.write("[tiers.free]\nrate = 1\n")
    assert live.rate() == 1
    assert live.tiers.fault is None


def test_while_the_store_is_away_its_last_answer_counts(live: Live) -> None:
    live.store.set_limits({override_key("tiers", "rate", "free"): 50})
    assert live.rate() == 50
    live.down = True
    live.write("[tiers.free]\nrunning = 3\n")
    assert live.rate() == 50
    assert live.tiers.of("free", "ann").running == 3


def test_the_store_is_asked_at_most_every_two_seconds_and_never_by_a_look_at_a_tier(live: Live) -> None:
    for _ in range(100):
        live.rate(0.05)
        live.tiers.of("vip", "bob")
    assert live.asked <= 1 + 100 * 0.05 / LOOK_EVERY_S


def test_a_file_that_never_was_good_lets_nothing_in_until_it_is(tmp_path: Path) -> None:
    live_path = tmp_path / "tiers.toml"
    live_path.write_text("[tiers.free]\nweight = 0\n")
    store, now = SqliteStore(tmp_path / "haul.db"), 0.0
    tiers = LiveTiers(live_path, store, lambda: now)
    for refused, error in ((tiers.fresh, Transient), (lambda: check_file(live_path), SettingsError)):
        with pytest.raises(error, match=r"HAUL_TIERS: .*tiers.toml, line 2, tiers.free.weight: 0 .*from 1 to 1000"):
            refused()
    live_path.write_text("[tiers.free]\nweight = 2000\n")
    now += LOOK_EVERY_S
    with pytest.raises(Transient, match="2000"):
        tiers.fresh()
    live_path.write_text("[tiers.free]\nweight = 20\n")
    now += LOOK_EVERY_S
    assert tiers.fresh().of("free", "").weight == 20
    store.close()


def test_a_file_that_is_no_text_or_not_there_is_told_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "tiers.toml"
    with pytest.raises(SettingsError, match=r"HAUL_TIERS: cannot read .*tiers.toml: No such file"):
        check_file(path)
    path.write_bytes(b"[tiers.free]\nrate = 1 # \xff\n")
    with pytest.raises(SettingsError, match="line 2: is not a text in UTF-8"):
        check_file(path)
    check_file(None)


def test_the_path_is_taken_from_the_environment_and_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HAUL_TIERS", "tiers.toml")
    assert load().tiers == tmp_path / "tiers.toml"
