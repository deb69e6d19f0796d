"""Every setting of every part: its type, default, unit and reason. Only entry points read it; the rest get values."""

import json
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from jobs.secrets import Vault
from jobs.webhook_url import Reach


class Settings(BaseSettings):
    """Read from the environment; a field's environment variable is its alias.

    The prefix keeps the shell's own HOME, HOST or PORT from being taken for ours.
    """

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_prefix="LONGHAUL_", extra="ignore")

    # One machine: `longhaul up`.
    home: Path = Field(Path(".longhaul"), alias="LONGHAUL_HOME", description="Data folder of `longhaul up`.")
    host: str = Field("127.0.0.1", alias="LONGHAUL_HOST", description="Address on which the API listens.")
    port: int = Field(8000, alias="LONGHAUL_PORT", ge=0, le=65535, description="Port of the API.")
    model: str | None = Field(
        None,
        alias="LONGHAUL_MODEL",
        description="Hugging Face id or folder, or a model of LONGHAUL_ENGINE's server; unset: its only one, or a tiny "
        "model built on the spot.",
    )
    engine: str = Field(
        "vllm",
        alias="LONGHAUL_ENGINE",
        description="`vllm`; or the base URL of a server with OpenAI's API (several of one model with commas); or "
        "`package.module:factory` of an ASGI app with an engine's calls.",
    )
    engine_args: str = Field(
        "", alias="LONGHAUL_ENGINE_ARGS", description="Arguments of vLLM, as on its own command line."
    )
    engine_key: str = Field(
        "",
        alias="LONGHAUL_ENGINE_KEY",
        repr=False,
        description="API key of the server that LONGHAUL_ENGINE names; several with commas, one for each.",
    )
    engine_concurrency: int | None = Field(
        None,
        alias="LONGHAUL_ENGINE_CONCURRENCY",
        ge=1,
        description="Requests that each such server gets at once; unset: what it says, or what it turns out to take.",
    )

    # Stores.
    database_url: str | None = Field(
        None, alias="DATABASE_URL", description="PostgreSQL 15 or newer; unset: an embedded one under `longhaul up`."
    )
    redis_url: str | None = Field(
        None, alias="REDIS_URL", description="Redis with `maxmemory-policy noeviction`; unset: an embedded one."
    )
    redis_prefix: str = Field(
        "longhaul",
        alias="LONGHAUL_REDIS_PREFIX",
        description="Keys and channels of this deployment begin with `{prefix}:`.",
    )
    blob_url: str = Field(
        "",
        alias="BLOB_URL",
        description="Where files lie: a folder, `s3://bucket/prefix`, `gs://...`, `az://...`; unset: `blobs` at home.",
    )
    pool_size: int = Field(8, alias="LONGHAUL_POOL_SIZE", ge=2, description="Database connections of one process.")

    # API.
    auth: Literal["keys", "none"] = Field(
        "keys", alias="LONGHAUL_AUTH", description="`none`: any key or none is the tenant `default`; for one machine."
    )
    auth_none_anywhere: bool = Field(
        False, alias="LONGHAUL_AUTH_NONE_ANYWHERE", description="Allow LONGHAUL_AUTH=none on a public address."
    )
    body_limit_bytes: int = Field(
        32 * 2**20, alias="LONGHAUL_BODY_LIMIT", ge=1024, description="Largest request body, bytes."
    )
    file_limit_bytes: int = Field(
        512 * 2**20, alias="LONGHAUL_FILE_LIMIT", ge=1024, description="Largest file that is no batch's input, bytes."
    )
    batch_file_limit_bytes: int = Field(
        200 * 2**20, alias="LONGHAUL_BATCH_FILE_LIMIT", ge=1024, description="Largest input file of a batch, bytes."
    )
    media_urls: bool = Field(
        False,
        alias="LONGHAUL_MEDIA_URLS",
        description="Allow http(s) URLs of media in a body: the worker fetches them from inside the deployment.",
    )
    separate_caches: bool = Field(
        False,
        alias="LONGHAUL_SEPARATE_CACHES",
        description="Tenants share no cached beginnings of prompts: none can tell by the time what another has asked.",
    )
    grace_seconds: float = Field(
        60,
        alias="LONGHAUL_GRACE",
        ge=0,
        description="How long a job waits for its client's own repeat before it is cancelled.",
    )
    timeout_seconds: int = Field(
        3600, alias="LONGHAUL_TIMEOUT", ge=1, description="How long a job may run unless its request says otherwise."
    )
    wait_seconds: int = Field(600, alias="LONGHAUL_MAX_WAIT", ge=1, description="Longest `wait` of one request.")

    # Order.
    flex_queue_limit: int | None = Field(
        None,
        alias="LONGHAUL_FLEX_QUEUE",
        ge=0,
        description="Refuse `flex` with 429 `resource_unavailable` while so many of a model's wait; unset: never.",
    )
    shares: Annotated[dict[str, float], NoDecode] = Field(
        default={"priority": 0.4, "default": 0.3, "flex": 0.1, "batch": 0.2},
        alias="LONGHAUL_SHARES",
        description="JSON object: each tier's share of all slots while others want them too.",
    )

    bulk_ceiling: float = Field(
        0.75,
        alias="LONGHAUL_BULK_CEILING",
        gt=0,
        le=1,
        description="Largest part of the slots for flex and batch while anyone interactive was served in a minute.",
    )

    # Batches.
    batch_line_limit: int = Field(
        50_000, alias="LONGHAUL_BATCH_LINES", ge=1, description="Most requests in one batch; OpenAI has 50,000."
    )
    batch_embedding_inputs: int = Field(
        50_000,
        alias="LONGHAUL_BATCH_EMBEDDING_INPUTS",
        ge=1,
        description="Most texts that one batch may embed, else it fails with `too_many_inputs`; OpenAI has 50,000.",
    )
    batch_enqueued_tokens: int | None = Field(
        None,
        alias="LONGHAUL_BATCH_ENQUEUED_TOKENS",
        ge=1,
        description="Most tokens, as they are estimated, that may wait in a tenant's batches for a model; a batch over "
        "it fails with `token_limit_exceeded`. Unset: any number.",
    )
    batch_mixed_models: bool = Field(
        False, alias="LONGHAUL_BATCH_MIXED_MODELS", description="Allow requests for several models in one batch."
    )
    batch_deduplicate: bool = Field(
        True,
        alias="LONGHAUL_BATCH_DEDUPLICATE",
        description="Run identical requests of a batch once, if temperature 0 or a seed makes their answers the same.",
    )

    # Webhooks.
    webhook_allow: str = Field(
        "",
        alias="WEBHOOK_ALLOW",
        description="Trusted receivers, a list with commas: hosts (`.corp.example`: all below it) are reached at any "
        "address and port and by http too, networks (`10.0.0.0/8`) beside the public addresses.",
    )
    webhook_ports: str = Field(
        "443,8443", alias="WEBHOOK_PORTS", description="Ports that webhooks may go to, a list with commas."
    )
    webhook_proxy_url: str | None = Field(
        None,
        alias="WEBHOOK_PROXY_URL",
        description="HTTP proxy through which all webhooks go; it then judges the addresses instead of Longhaul.",
    )
    webhook_jitter: float = Field(
        0.2,
        alias="LONGHAUL_WEBHOOK_JITTER",
        ge=0,
        lt=1,
        description="How far a webhook's next attempt may lie from its schedule, as a part of the pause before it.",
    )
    secret_key: str = Field(
        "",
        alias="LONGHAUL_SECRET_KEY",
        repr=False,
        description="Encrypts webhooks' secrets and headers; several with commas, the first for what is new. `longhaul "
        "up` makes one and keeps it at home; others: `Fernet.generate_key()` of `cryptography`.",
    )

    # Worker.
    lease_seconds: float = Field(
        60, alias="LONGHAUL_LEASE", gt=0, description="A worker that is silent this long has lost its jobs."
    )
    drain_seconds: float = Field(
        25,
        alias="LONGHAUL_DRAIN",
        ge=0,
        description="How long SIGTERM lets running jobs finish: a spot notice is 30 s.",
    )
    worker_id: str | None = Field(
        None,
        alias="LONGHAUL_WORKER_ID",
        description="UUID of this boot; `longhaul up` sets it, else the worker makes one.",
    )

    # Control.
    chore_seconds: float = Field(
        5, alias="LONGHAUL_CHORES", gt=0, description="Period of the chores that reconcile, rescue and expire."
    )
    keep_days: int = Field(
        30, alias="LONGHAUL_KEEP_DAYS", ge=1, description="Days after which request and result bodies go."
    )

    # Watching.
    metrics_port: int = Field(
        0,
        alias="LONGHAUL_METRICS_PORT",
        ge=0,
        le=65535,
        description="Port of /metrics, /livez and /readyz on worker and control; 0: none."
        " In `longhaul up` the worker has the next.",
    )
    otlp_endpoint: str | None = Field(
        None,
        alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="OpenTelemetry collector (OTLP over HTTP) that gets the traces; unset: none are made.",
    )
    log_format: Literal["json", "text"] = Field(
        "json", alias="LONGHAUL_LOG_FORMAT", description="Lines of JSON, or text."
    )
    log_level: str = Field("INFO", alias="LONGHAUL_LOG_LEVEL", description="Least severity that is logged.")

    @property
    def is_local(self) -> bool:
        """Whether the API is reached from this machine only."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def blob_store(self) -> str:
        """The URL or folder of the blobs."""
        return self.blob_url or str(self.home / "blobs")

    @property
    def webhook_reach(self) -> Reach:
        """Where webhooks may go."""
        return Reach.of(self.webhook_allow, self.webhook_ports)

    @field_validator("database_url")
    @classmethod
    def _driver_is_ours(cls, value: str | None) -> str | None:
        """Any of the usual spellings names the one driver that we bring."""
        for scheme in ("postgres://", "postgresql://"):
            if value and value.startswith(scheme):
                return "postgresql+psycopg://" + value.removeprefix(scheme)
        return value

    @field_validator("shares", mode="before")
    @classmethod
    def _shares_are_json(cls, value: object) -> object:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("shares")
    @classmethod
    def _shares_name_tiers(cls, value: dict[str, float]) -> dict[str, float]:
        tiers = {"priority", "default", "flex", "batch"}
        if set(value) != tiers or any(share < 0 for share in value.values()) or sum(value.values()) <= 0:
            raise ValueError("must give each of priority, default, flex and batch a share of 0 or more, not all 0")
        return value

    @field_validator("webhook_allow")
    @classmethod
    def _receivers_are_hosts_or_networks(cls, value: str) -> str:
        Reach.of(value, "")
        return value

    @field_validator("secret_key")
    @classmethod
    def _keys_are_keys(cls, value: str) -> str:
        try:
            Vault(value)
        except ValueError:
            raise ValueError("must be 32 bytes in URL-safe base64, or several of these with commas") from None
        return value

    @field_validator("webhook_ports")
    @classmethod
    def _ports_are_numbers(cls, value: str) -> str:
        Reach.of("", value)
        return value

    @field_validator("webhook_proxy_url")
    @classmethod
    def _proxy_is_a_url(cls, value: str | None) -> str | None:
        if value and not (urlsplit(value).scheme in ("http", "https") and urlsplit(value).hostname):
            raise ValueError("must be a URL like http://user:password@host:port")
        return value or None

    @field_validator("log_level")
    @classmethod
    def _level_is_known(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()


def load() -> Settings:
    """The settings of this process's environment.

    Raises:
        SystemExit: with all faults in one message, each with the variable's name.
    """
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"  {fault['loc'][0]}: {fault['msg']}" for fault in error.errors()]
        raise SystemExit("Settings are not valid:\n" + "\n".join(lines)) from None
