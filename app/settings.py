"""Settings: read once from the environment (prefix `HAINA_`, `__` between levels). An unknown name is an error.

Knobs that an admin turns while the server runs live in the database, not here.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "HAINA_"
SCRIPTED = "scripted:"
"""How the address of the scripted engine begins; the rest names its script."""
NOT_SETTINGS = {"HAINA_PASSWORD", "HAINA_WORKER_TOKEN"}
"""Secrets that commands read by themselves: never on a command line, never kept."""


class InvalidSettings(Exception):
    """The environment holds a setting that is unknown or has an impossible value."""


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ServerSettings(_Group):
    """Where the web listens and how it is reached."""

    host: str = "127.0.0.1"
    """Anything but a loopback address asks for a secret key, sign-in and API keys."""
    port: int = Field(default=7860, ge=0, le=65535)
    """0 takes a free one."""
    public_url: str = ""
    """As people type it, behind a proxy: `https://chat.example.org`."""
    secret_key: SecretStr = SecretStr("")
    """Signs cookies. Left out on loopback, one is made and kept in the data folder."""
    trusted_proxies: str = ""
    """Addresses, separated by commas, whose X-Forwarded headers are believed."""
    operator: str = Field(default="Haina", min_length=1, max_length=100)
    """Whose service it is: the `ContentProducer` in the labels of what AI made."""

    @field_validator("host")
    @classmethod
    def _is_host(cls, host: str) -> str:
        if host and not _is_host(host):
            raise ValueError("an address or a host's name")
        return host

    @field_validator("operator")
    @classmethod
    def _is_one_line(cls, name: str) -> str:
        if not name.isprintable() or name != name.strip():
            raise ValueError("one line, without blanks around it")
        return name


class StorageSettings(_Group):
    """The database."""

    url: str = ""
    """`sqlite+aiosqlite:///…` (left out: `haina.db` in the data folder) or `postgresql+psycopg://…`."""


class EngineSettings(_Group):
    """The engine that answers. Without a URL a local worker is started."""

    url: str = ""
    """`http://127.0.0.1:8001/v1`, or `scripted:` for the scripted engine."""
    api_key: SecretStr = SecretStr("")
    """Sent to the engine as a bearer token."""
    model: str = "default"
    """The model's name at the engine; `default` is the first that it lists."""
    kind: Literal["tokens", "chat"] = "tokens"
    """`tokens`: `/v1/completions` with ids; `chat`: `/v1/chat/completions` with messages."""
    slots: int = Field(default=0, ge=0, le=4096)
    """How many turns may run at once; 0: what the engine says, or 4."""
    timeout_s: float = Field(default=60.0, gt=0)
    """How long to wait for the next token before the turn fails."""

    @field_validator("url")
    @classmethod
    def _is_one_engine(cls, url: str) -> str:
        if not url or url.startswith(SCRIPTED):
            return url
        if "," in url:
            raise ValueError("several engines are not supported by this version yet")
        if not _is_http_address(url):
            raise ValueError(f"an engine's address is http://HOST:PORT/v1, https://HOST/v1 or {SCRIPTED}")
        return url


class ModelSettings(_Group):
    """What the local worker loads."""

    path: str = "default"
    """A folder, a hub id, or `default`: the embedded model."""
    revision: str = ""
    """Of a hub id: a branch, a tag or a commit."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; `auto` takes what the machine is fast at."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """While loading, by bitsandbytes."""
    slots: int = Field(default=0, ge=0, le=256)
    """0: chosen by the worker."""
    tokenizer: str = ""
    """A `tokenizer.json`, or the folder that holds it, for an engine that cannot hand out its own."""
    adapter: str = ""
    """A LoRA adapter that changes the model: a folder, or a hub id."""
    adapter_mode: Literal["auto", "merged", "live"] = "auto"
    """Into the weights, or beside them; `auto`: merged, unless the weights are packed."""
    classifier: str = ""
    """A folder with a sequence-classification model, for the filter; in a local worker, also beside an engine's URL."""

    @field_validator("path")
    @classmethod
    def _is_a_model(cls, path: str) -> str:
        if path == "none":
            raise ValueError("a server needs a model that answers; for one elsewhere set HAINA_ENGINE__URL")
        return path


class SafetySettings(_Group):
    """The content filter."""

    policy: str = ""
    """A policy file, or `builtin:NAME`, that is used in place of `builtin:general`."""
    guard_url: str = ""
    """A guard model's `/v1`: it is asked about questions and answers, whatever the policy."""
    guard_kind: Literal["qwen3guard", "llama_guard", "shieldlm", "judge", "moderations", "classify"] = "qwen3guard"
    """How it is asked."""
    guard_model: str = "default"
    """The model's name there; `default` is the first that it lists."""
    guard_api_key: SecretStr = SecretStr("")
    """Sent to it as a bearer token."""
    guard_mode: Literal["strict", "fast"] = "strict"
    """`strict`: of an answer nothing is shown that it has not judged; `fast`: it cuts when it has judged."""

    evidence: Literal["off", "refused", "all_hits"] = "off"
    """Which texts are kept, encrypted, for who reviews decisions: none, refused ones, all with a hit."""
    evidence_days: int = Field(default=30, ge=1, le=3650)
    """For how long, in days."""
    evidence_key: SecretStr = SecretStr("")
    """32 random bytes in URL-safe base64. Left out, one is made and kept in the data folder, in `evidence_key`."""
    strikes_in_row: int | None = Field(default=None, ge=0, le=1000)
    """After so many refused questions in a row an account is paused; 0: never. Left out: 3, and 0 on loopback."""
    strikes_per_day: int | None = Field(default=None, ge=0, le=1000)
    """The same for refused questions within 24 hours. Left out: 5, and 0 on loopback."""
    suspension_h: float = Field(default=24.0, gt=0, le=8760)
    """How long a pause lasts, in hours."""

    @field_validator("guard_url")
    @classmethod
    def _is_guard(cls, url: str) -> str:
        if url and (not _is_http_address(url) or urlsplit(url).username):
            raise ValueError("a guard's address is http://HOST:PORT/v1 or https://HOST/v1; a key is GUARD_API_KEY")
        return url

    @model_validator(mode="after")
    def _has_address(self) -> Self:
        names = ("guard_kind", "guard_model", "guard_api_key", "guard_mode")
        given = [name for name in names if name in self.model_fields_set]
        if given and not self.guard_url:
            raise ValueError(f"{PREFIX}SAFETY__{given[0].upper()} is for a guard model; GUARD_URL says where it is")
        return self


class AccessSettings(_Group):
    """Who may come in."""

    guests: Literal["auto", "on", "off"] = "auto"
    """Chat without an account. `auto`: on loopback only."""
    shares: Literal["auto", "on", "off"] = "auto"
    """Links with which anybody may read a conversation, without an account. `auto`: on loopback only."""
    sign_up: Literal["off"] = "off"
    """Accounts are made by an admin."""


class LogSettings(_Group):
    """The log on standard error. It never holds message text."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less grave is left out."""
    format: Literal["auto", "console", "json"] = "auto"
    """`auto`: for people on a terminal, JSON lines elsewhere."""


class Settings(BaseSettings):
    """All settings. Build them with `load_settings`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True, use_attribute_docstrings=True
    )

    data_dir: Path = Path("data")
    """The database, the converted embedded model, the secret key, the evidence key."""
    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    engine: EngineSettings = EngineSettings()
    model: ModelSettings = ModelSettings()
    safety: SafetySettings = SafetySettings()
    access: AccessSettings = AccessSettings()
    log: LogSettings = LogSettings()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.server.host in {"127.0.0.1", "localhost", "::1"}

    @property
    def is_private(self) -> bool:
        """Whether only people at this machine come in: on loopback, and not behind a proxy that has a public name."""
        return self.is_loopback and not self.server.public_url

    @property
    def has_guests(self) -> bool:
        """Whether one may chat without an account."""
        return self.access.guests == "on" or (self.access.guests == "auto" and self.is_private)

    @property
    def strikes(self) -> tuple[int, int]:
        """How many refused questions are too many, in a row and within 24 hours; who is alone here pauses nobody."""
        in_row, per_day = self.safety.strikes_in_row, self.safety.strikes_per_day
        default = (0, 0) if self.is_private else (3, 5)
        return default[0] if in_row is None else in_row, default[1] if per_day is None else per_day

    @property
    def has_shares(self) -> bool:
        """Whether conversations may be shared by link."""
        return self.access.shares == "on" or (self.access.shares == "auto" and self.is_private)

    @property
    def storage_url(self) -> str:
        """The database's URL, the default filled in."""
        return self.storage.url or f"sqlite+aiosqlite:///{self.data_dir / 'haina.db'}"


def setting_names() -> Iterator[str]:
    """Yield the name of every setting, as the environment spells it."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from (f"{PREFIX}{name}__{inner}".upper() for inner in field.annotation.model_fields)
        else:
            yield f"{PREFIX}{name}".upper()


def load_settings(environ: Mapping[str, str] | None = None, **overrides: object) -> Settings:
    """Return the settings from the environment; `overrides` are whole groups or top-level values.

    Raises InvalidSettings with one line for each fault.
    """
    known = set(setting_names())
    faults = []
    for name in sorted(os.environ if environ is None else environ):
        if name.upper().startswith(PREFIX) and name.upper() not in known | NOT_SETTINGS:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            faults.append(f"{name}: there is no such setting" + (f"; did you mean {near[0]}?" if near else ""))
    if faults:
        raise InvalidSettings("\n".join(faults))
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        lines = [
            f"{PREFIX}{'__'.join(str(part) for part in fault['loc']).upper()}: "
            + fault["msg"].removeprefix("Value error, ")
            for fault in error.errors(include_input=False, include_url=False)
        ]
        raise InvalidSettings("\n".join(lines)) from error


def _is_host(host: str) -> bool:
    with suppress(UnicodeError):  # empty or overlong parts, half a character
        return bool(host.encode("idna")) and host.isprintable() and " " not in host
    return False


def _is_http_address(url: str) -> bool:
    with suppress(ValueError):  # a port that is none, brackets around no address
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and parts.port != 0 and _is_host(parts.hostname or "")
        return is_whole and url.isprintable() and " " not in url
    return False
