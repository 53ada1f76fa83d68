"""Everything that can be set: frozen, typed, and the only reader of the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import platformdirs
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from worker.limits import BACKUP_RATE, BATCH_ITEMS, BATCH_ITEMS_MAX, CACHE_BYTES, FREE_BYTES_MIN, SPACE_RESERVE_BYTES
from worker.notation.bandwidth import read_budget
from worker.notation.engines import read_lines
from worker.notation.keep import Keep, read_keep
from worker.notation.sizes import read_size, size_or_none
from worker.stack import Stack

EMBEDDED = "embedded"
#: Each may have posts under way at once.
WEBHOOKS_MAX = 8

POSTABLE = "http or https address in ASCII without a fragment; percent-encode commas and blanks"
_PLAIN = re.compile(r"[!-~]+")


class SettingsError(Exception):
    """A setting is wrong; the message names the variable and the fix."""


class NoStack(SettingsError):
    """The settings say `embedded` and no stack runs on this data directory."""


class _SecretFiles(PydanticBaseSettingsSource):
    """`HAUL_X_FILE=path` gives `HAUL_X` the content of the file, so that secrets stay out of the environment."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class passes it
        variable = f"HAUL_{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, False
        except OSError as error:
            raise SettingsError(f"{variable}: cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise SettingsError(f"{variable}: {path} is not a text in UTF-8") from None

    def __call__(self) -> dict[str, Any]:
        values = {name: self.get_field_value(info, name)[0] for name, info in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """The settings of one process. With nothing set: an embedded stack in the user's data directory."""

    model_config = SettingsConfigDict(env_prefix="HAUL_", frozen=True, extra="ignore")

    data_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir("haul")))
    store_url: SecretStr = SecretStr("")
    redis_url: SecretStr = SecretStr(EMBEDDED)
    engines: Annotated[tuple[SecretStr, ...], NoDecode] = (SecretStr(EMBEDDED),)
    engines_file: Path | None = None
    profile: Literal["development", "staging", "production"] = "development"
    allow_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = ()
    egress: Literal["checked", "guarded", "strict"] = "checked"
    connections_per_host: int | None = Field(default=None, ge=1, le=16)
    jobs_per_host: int | None = Field(default=None, ge=1)
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8060, ge=0, le=65_535)
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    webhooks: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    webhook_secret: SecretStr = SecretStr("")
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    alive_path: Path | None = None
    timezone: str = "UTC"
    tiers: Path | None = None
    doors_without_redis: Literal["open", "closed"] = "open"
    failpoint: str = ""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["text", "json"] = "text"
    key_prefix: str = "haul"
    installation: str = Field(default="", pattern=r"^[a-z0-9]{0,16}$")
    cache_url: SecretStr = SecretStr("")
    cache_bytes: Annotated[int, BeforeValidator(size_or_none)] = CACHE_BYTES
    bandwidth: str = ""
    slots: int = Field(default=32, ge=1, le=10_000)
    metadata_timeout_s: float = Field(default=600.0, gt=0)
    stall_timeout_s: float = Field(default=3600.0, gt=0)
    balancer: Literal["round-robin", "least-loaded", "random", "capacity"] = "round-robin"
    failover_s: float = Field(default=45.0, ge=2.0)
    give_up_s: float = Field(default=7 * 86_400.0, gt=0)
    seed_hours: float = Field(default=72.0, gt=0)
    space_reserve: int = SPACE_RESERVE_BYTES
    space_patience_s: float = Field(default=900.0, gt=0)
    probe: Literal["always", "never"] = "always"
    aria2c: str | None = None
    qbittorrent: str | None = None
    valkey: str | None = None
    batch_items: int = Field(default=BATCH_ITEMS, ge=1, le=BATCH_ITEMS_MAX)
    keep_jobs_days: float = Field(default=90.0, ge=0)
    keep_jobs: int = Field(default=1_000_000, ge=0)
    keep_work_days: float = Field(default=14.0, ge=0)
    keep_runs_days: float = Field(default=400.0, ge=0)
    keep_files_days: float = Field(default=0.0, ge=0)
    keep_user_bytes: Annotated[int, BeforeValidator(size_or_none)] = 0
    api_url: str = ""
    baseline_dir: Path | None = None
    backup_dir: Path | None = None
    backup_copy_dir: Path | None = None
    backup_key_file: Path | None = None
    backup_keep: Annotated[Keep, NoDecode] = Keep()
    backup_rate: Annotated[int, BeforeValidator(size_or_none)] = BACKUP_RATE

    @field_validator("engines", mode="before")
    @classmethod
    def _engine_list(cls, value: Any) -> Any:
        return tuple(address for _, address in read_lines(value)) if isinstance(value, str) else value

    @field_validator("api_keys", "webhooks", "allow_networks", mode="before")
    @classmethod
    def _comma_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("allow_networks", mode="after")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        return tuple(ip_network(network) for network in value)

    @field_validator("webhooks", mode="after")
    @classmethod
    def _receivers(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        if len(value) > WEBHOOKS_MAX:
            raise ValueError(f"{len(value)} addresses are too many; give at most {WEBHOOKS_MAX}")
        for number, address in enumerate(value, 1):
            if not _postable(address.get_secret_value()):
                raise ValueError(f"number {number} is no {POSTABLE}")
        return value

    @field_validator("space_reserve", mode="before")
    @classmethod
    def _reserve(cls, value: Any) -> Any:
        size = read_size(value) if isinstance(value, str) else value
        if not isinstance(size, int) or size < FREE_BYTES_MIN:
            raise ValueError(f"must be a size of at least {FREE_BYTES_MIN // 1024**2} MiB, such as 2 GiB")
        return size

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, OSError):
            raise ValueError(f"{value!r} is no time zone; use a name such as Europe/Berlin") from None
        return value

    @field_validator("bandwidth")
    @classmethod
    def _budget(cls, value: str) -> str:
        read_budget(value)
        return value

    @field_validator("backup_keep", mode="before")
    @classmethod
    def _kept(cls, value: Any) -> Any:
        return read_keep(value) if isinstance(value, str) else value

    @field_validator("data_dir", "tiers", "engines_file", "baseline_dir", "backup_dir", "backup_copy_dir")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            return value.expanduser().absolute()
        except RuntimeError:
            raise ValueError(f"there is no home directory for {value}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - not read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then files named by `HAUL_…_FILE`, then the environment."""
        return init_settings, _SecretFiles(settings_cls), env_settings

    @property
    def store_address(self) -> str:
        """The store's URL, the default filled in; may hold a password."""
        return self.store_url.get_secret_value() or f"sqlite:///{self.data_dir / 'haul.db'}"

    @property
    def probes(self) -> bool:
        """True when sources are asked for their size before they are downloaded."""
        return self.probe == "always"

    @property
    def checks(self) -> bool:
        """True when what a job names is resolved and checked before an engine gets it, for nothing else guards the engines."""
        return self.egress == "checked"

    @property
    def redis_address(self) -> str:
        """Redis's URL; may hold a password. `connected()` has replaced `embedded`."""
        return self.redis_url.get_secret_value()

    @property
    def engine_addresses(self) -> tuple[str, ...]:
        """The engines' URLs; may hold secrets."""
        return tuple(engine.get_secret_value() for engine in self.engines)

    @property
    def webhook_addresses(self) -> tuple[str, ...]:
        """Where events are posted, the receiver of jobs that name none first; may hold secrets."""
        return tuple(address.get_secret_value() for address in self.webhooks)

    @property
    def needs_stack(self) -> bool:
        """True while an address is `embedded`."""
        return EMBEDDED in (self.redis_address, *self.engine_addresses)

    def connected(self, stack: Stack | None = None) -> Settings:
        """These settings with `embedded` replaced by the addresses of the running stack, whose webhooks are ours when we have none.

        Raises:
            NoStack: no stack is given and none has written its addresses.
        """
        if not self.needs_stack:
            return self
        stack = stack or Stack.load(self.data_dir)
        if stack is None:
            raise NoStack(f"no stack is running on {self.data_dir}: start one with `haul up`, or set HAUL_REDIS_URL and HAUL_ENGINES")
        redis_url = stack.redis_url if self.redis_address == EMBEDDED else self.redis_address
        named = [address for address in self.engine_addresses if address != EMBEDDED]
        engines = [*stack.engines, *named] if EMBEDDED in self.engine_addresses else named
        update = {"redis_url": SecretStr(redis_url), "engines": tuple(SecretStr(e) for e in engines)}
        webhooks = self.webhooks or tuple(SecretStr(address) for address in stack.webhooks)
        return self.model_copy(update={**update, "webhooks": webhooks})


def _postable(address: str) -> bool:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return False
    whole = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
    return whole and not parts.fragment and _PLAIN.fullmatch(address) is not None


def load(**overrides: Any) -> Settings:
    """Read the environment.

    Args:
        overrides: values that go before the environment, as from a command line.

    Raises:
        SettingsError: names the first variable that is wrong.
    """
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = "HAUL_" + str(first["loc"][0]).upper()
        raise SettingsError(f"{variable}: {first['msg']}") from None


def child_environment(settings: Settings) -> Mapping[str, str]:
    """What a child process needs in its environment to have these settings: the data directory; the rest is inherited."""
    return {**os.environ, "HAUL_DATA_DIR": str(settings.data_dir)}
