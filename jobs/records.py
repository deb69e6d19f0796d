"""What passes between the parts: frozen rows, no behaviour."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum, IntFlag
from typing import Any, TypeAlias
from uuid import UUID

from jobs.states import BatchStatus, Status

Json: TypeAlias = dict[str, Any]


class Tier(IntEnum):
    """A lane of one model, in the order in which the engine prefers them. Jobs that lost two workers are `SUSPECT`."""

    PRIORITY = 0
    DEFAULT = 1
    FLEX = 2
    BATCH = 3
    SUSPECT = 4

    @property
    def label(self) -> str:
        """As requests, settings and metrics spell it."""
        return self.name.lower()


class Flags(IntFlag):
    """What hangs on a job's end, so that the finishing flush looks only where something does."""

    NONE = 0
    WEBHOOK = 1
    LINES = 2
    SUCCESSOR = 4
    BACKGROUND = 8
    STREAMS = 16
    """It runs as a stream, whose log is kept."""
    TELLS = 32
    """Its end is told to whoever listens: submitted asynchronously, and no line of a batch."""
    RESPONSES = 64
    """It is one of `/v1/responses`, of which OpenAI has events of its own."""
    INCOMPLETE = 128
    """Only in what a finish returns: its response says that it was cut short."""
    UNSTORED = 256
    """Its client asked not to keep the response: nobody retrieves or continues it."""
    DIALECT = 512
    """Its body has parameters of our own, which the worker translates."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """Who asks. `id` 1 is the tenant `default`."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """`key` as the client sent it; `body_hash` (16 bytes) tells whether the same request came again."""

    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class OwnWebhook:
    """The webhook that a request or a batch brought itself. `target` is encrypted: its URL, secret and headers.

    Deliveries of one `lane` share a receiver. `includes_result`: the event of the end carries the result.
    """

    lane: int
    event_types: tuple[str, ...]
    includes_result: bool
    target: bytes


@dataclass(frozen=True, slots=True)
class NewJob:
    """One admitted request. `body` is what the engine will get, `cost` its estimated tokens (at least 1)."""

    id: UUID
    tenant_id: int
    model_id: int
    model: str
    endpoint: str
    body: bytes
    tier: Tier
    waited: bool
    cost: int
    timeout_seconds: int
    expires_seconds: int | None = None
    service_tier: str | None = None
    metadata: dict[str, str] | None = None
    key: IdempotencyKey | None = None
    repeat_hash: bytes | None = None
    """16 bytes of the same tenant's path and body, where the client may come back for the job (see `jobs.repeats`)."""
    retry_of: UUID | None = None
    webhook: OwnWebhook | None = None
    flags: Flags = Flags.NONE
    previous: UUID | None = None
    """The response that this one continues."""
    traceparent: str | None = None
    """Where the trace of its request goes on; None: it is not traced."""
    conversation: str | None = None
    """It is the next turn of the tenant's conversation of this name."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one `NewJob`: its own row, or the job that this repeats."""

    id: UUID
    existed: bool


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that this worker holds: `lease_token` fences everything that it will write about it."""

    id: UUID
    lease_token: int
    flow_id: int
    tenant_id: int
    tier: Tier
    cost: int
    weight: float
    """Effective weight of its flow when it was claimed; the settlement divides by it."""
    attempts: int
    timeout_seconds: int
    flags: Flags
    endpoint: str
    body: bytes
    service_tier: str | None
    waited: bool
    """Whether a client holds a connection for its response."""
    previous: UUID | None = None
    """The response that this one continues."""
    traceparent: str | None = None
    """Where the trace of its request goes on."""
    queued_seconds: float = 0.0
    """From its submit to this claim, by the database's clock."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one response."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class StreamLog:
    """What a stream said, packed (`jobs.streams.unpack`): in which run, and the number of its first event."""

    run: int
    first: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: a response of the engine, or an `error_code` of ours where there is none."""

    status: Status
    status_code: int | None = None
    body: bytes | None = None
    usage: Usage = Usage()
    error_code: str | None = None
    error_message: str | None = None
    log: StreamLog | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What a waiter needs of a job that ended."""

    id: UUID
    status: Status
    status_code: int | None
    body: bytes | None
    error_code: str | None
    error_message: str | None


@dataclass(frozen=True, slots=True)
class JobView:
    """One job with everything the job object shows. `body` of the response only where it was asked for."""

    id: UUID
    tenant_id: int
    status: Status
    endpoint: str
    model: str
    tier: Tier
    service_tier: str | None
    flags: Flags
    attempts: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    batch_id: UUID | None = None
    custom_id: str | None = None
    metadata: dict[str, str] | None = None
    retry_of: UUID | None = None
    usage: Usage | None = None
    status_code: int | None = None
    body: bytes | None = None
    error_code: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """What an engine says of itself when its worker comes up.

    `endpoints` maps each path to the JSON schema of its request body, made self-contained (`$defs` inside).
    `spare` of the slots are more than it runs at once: jobs that wait in it, so that it need not wait for a claim.
    """

    model: str
    aliases: tuple[str, ...]
    adapters: tuple[str, ...]
    endpoints: dict[str, Json]
    context_length: int | None
    slots: int
    spare: int = 0
    limits: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that was registered and not retired, as admission sees it.

    `endpoints` maps each path to the hash of its schema; `queue` is the Celery queue of its engine.
    """

    id: int
    name: str
    aliases: tuple[str, ...]
    adapters: tuple[str, ...]
    queue: str
    endpoints: dict[str, str]
    context_length: int | None
    created_at: datetime
    workers: int
    slots: int
    bytes_per_token: float
    mean_output: dict[Tier, float]


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch as it was asked for. `window` in the client's spelling, such as `24h`; `endpoint` has been checked."""

    id: UUID
    tenant_id: int
    endpoint: str
    input_file_id: UUID
    window: str
    window_seconds: int
    metadata: dict[str, str] | None = None
    output_expires_seconds: int | None = None
    retry_of: UUID | None = None
    webhook: OwnWebhook | None = None
    key: IdempotencyKey | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch with everything the batch object shows. `ended` counts lines however they ended.

    `errors` are what fails the file as a whole: `{code, message, param, line}` each. `usage` is that of the jobs that
    have ended so far, None where none could.
    """

    id: UUID
    tenant_id: int
    endpoint: str
    model: str | None
    status: BatchStatus
    ending: BatchStatus
    errors: list[Json] | None
    input_file_id: UUID
    window: str
    metadata: dict[str, str] | None
    output_expires_seconds: int | None
    retry_of: UUID | None
    output_file_id: UUID | None
    error_file_id: UUID | None
    total: int
    completed: int
    failed: int
    ended: int
    usage: Usage | None
    created_at: datetime
    expires_at: datetime
    in_progress_at: datetime | None
    finalizing_at: datetime | None
    completed_at: datetime | None
    failed_at: datetime | None
    expired_at: datetime | None
    cancelling_at: datetime | None
    cancelled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a batch that has ended, with its response or the error that it has instead.

    `ended` is the how-manieth of its batch it was to end, `ending` how its batch ends. `copy_of` is the custom_id of
    the earlier line whose job answers this one too. `request` only where it was asked for.
    """

    line: int
    custom_id: str
    job_id: UUID
    ended: int
    status: Status
    ending: BatchStatus
    copy_of: str | None
    status_code: int | None
    body: bytes | None
    error_code: str | None
    error_message: str | None
    usage: Usage
    request: bytes | None = None
