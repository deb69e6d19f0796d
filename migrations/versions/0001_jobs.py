"""Jobs, their bodies and results, the order they are served in, workers, models, tenants and keys."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TYPE job_status AS ENUM ('queued', 'in_progress', 'completed', 'failed', 'cancelled', 'expired');

CREATE TABLE tenants (
    id         int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL UNIQUE,
    weight     real NOT NULL DEFAULT 1 CHECK (weight > 0),
    paused     boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO tenants (name) VALUES ('default');

CREATE TABLE api_keys (
    id         uuid PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenants,
    name       text NOT NULL,
    hash       bytea NOT NULL UNIQUE,   -- SHA-256 of the key: it has 256 random bits, so no salt and no stretching
    hint       text NOT NULL,           -- its last four characters
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);

CREATE TABLE models (
    id              int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE,
    queue           text NOT NULL UNIQUE,
    registration    jsonb NOT NULL,     -- of the worker that registered last; endpoints map to schema hashes
    bytes_per_token real NOT NULL DEFAULT 4 CHECK (bytes_per_token > 0),
    created_at      timestamptz NOT NULL DEFAULT now(),
    retired_at      timestamptz
);

CREATE TABLE model_names (
    name     text PRIMARY KEY,
    model_id int NOT NULL REFERENCES models ON DELETE CASCADE,
    kind     text NOT NULL CHECK (kind IN ('primary', 'alias', 'adapter'))
);

CREATE TABLE schemas (
    hash text PRIMARY KEY,
    body jsonb NOT NULL
);

CREATE TABLE workers (
    id           uuid PRIMARY KEY,
    model_id     int NOT NULL REFERENCES models,
    registration jsonb NOT NULL,
    slots        int NOT NULL CHECK (slots > 0),
    host         text NOT NULL,
    pid          int NOT NULL,
    home         text,                  -- the folder of the `longhaul up` that started it
    started_at   timestamptz NOT NULL DEFAULT now(),
    lease_until  timestamptz NOT NULL,
    draining     boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
CREATE INDEX workers_model ON workers (model_id);

CREATE TABLE lanes (
    model_id    int NOT NULL REFERENCES models,
    tier        smallint NOT NULL,
    vfloor      double precision NOT NULL DEFAULT 0,
    mean_output real NOT NULL DEFAULT 128,
    tokens_per_second real NOT NULL DEFAULT 0,
    served_at   timestamptz,            -- the last claim, to the second
    holder      uuid,                   -- the one worker that serves the suspect lane
    PRIMARY KEY (model_id, tier)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE flows (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    model_id  int NOT NULL,
    tier      smallint NOT NULL,
    tenant_id int NOT NULL,
    waited    boolean NOT NULL,
    batch_id  uuid,
    weight    real NOT NULL DEFAULT 1 CHECK (weight > 0),
    paused    boolean NOT NULL DEFAULT false,
    vtime     double precision NOT NULL DEFAULT 0,
    queued    int NOT NULL DEFAULT 0 CHECK (queued >= 0),
    open      boolean NOT NULL DEFAULT false CHECK (open = (queued > 0)),
    cursor    bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE UNIQUE INDEX flows_key ON flows (model_id, tier, tenant_id, waited, batch_id) NULLS NOT DISTINCT;
CREATE INDEX flows_open ON flows (model_id, tier, tenant_id) WHERE open;

CREATE TABLE jobs (
    id          uuid PRIMARY KEY,
    flow_id     bigint NOT NULL,
    tenant_id   int NOT NULL,
    cost        int NOT NULL CHECK (cost >= 1),
    lease_token int NOT NULL DEFAULT 0,
    status      job_status NOT NULL DEFAULT 'queued',
    tier        smallint NOT NULL,      -- as it was asked for; its flow's may be the suspect lane
    attempts    smallint NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    losses      smallint NOT NULL DEFAULT 0,
    flags       smallint NOT NULL DEFAULT 0,
    timeout_s   int NOT NULL,
    place       bytea NOT NULL,
    worker_id   uuid,
    blocked_on  uuid,
    created_at  timestamptz NOT NULL DEFAULT now(),
    started_at  timestamptz,
    finished_at timestamptz,
    expires_at  timestamptz,
    CHECK ((worker_id IS NOT NULL) = (status = 'in_progress')),
    CHECK ((finished_at IS NOT NULL) = (status NOT IN ('queued', 'in_progress'))),
    CHECK (blocked_on IS NULL OR status NOT IN ('in_progress', 'completed'))
) WITH (fillfactor = 90);
CREATE INDEX jobs_queued  ON jobs (flow_id, place) WHERE status = 'queued' AND blocked_on IS NULL;
CREATE INDEX jobs_running ON jobs (worker_id) WHERE status = 'in_progress';
CREATE INDEX jobs_expires ON jobs (expires_at) WHERE status = 'queued' AND expires_at IS NOT NULL;
CREATE INDEX jobs_blocked ON jobs (blocked_on) WHERE blocked_on IS NOT NULL;
CREATE INDEX jobs_tenant  ON jobs (tenant_id, id);

-- What only some jobs have and only readers want.
CREATE TABLE details (
    job_id       uuid PRIMARY KEY,
    metadata     jsonb,
    service_tier text,
    retry_of     uuid,
    batch_id     uuid,
    custom_id    text,
    webhook      jsonb,
    traceparent  text
);
CREATE INDEX details_metadata ON details USING gin (metadata jsonb_path_ops) WHERE metadata IS NOT NULL;

-- Bodies, insert-only, a partition a day of the UUIDv7 id: a day is dropped, never deleted row by row.
CREATE TABLE requests (
    job_id   uuid PRIMARY KEY,
    endpoint text NOT NULL,
    model    text NOT NULL,
    body     bytea NOT NULL
) PARTITION BY RANGE (job_id);
ALTER TABLE requests ALTER body SET STORAGE EXTERNAL;
CREATE TABLE requests_default PARTITION OF requests DEFAULT;

CREATE TABLE results (
    job_id           uuid PRIMARY KEY,
    status_code      smallint,
    body             bytea,
    error_code       text,
    error_message    text,
    input_tokens     int NOT NULL DEFAULT 0,
    cached_tokens    int NOT NULL DEFAULT 0,
    output_tokens    int NOT NULL DEFAULT 0,
    reasoning_tokens int NOT NULL DEFAULT 0
) PARTITION BY RANGE (job_id);
ALTER TABLE results ALTER body SET STORAGE EXTERNAL;
CREATE TABLE results_default PARTITION OF results DEFAULT;

CREATE TABLE idempotency (
    tenant_id  int NOT NULL,
    key        text NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('job', 'file', 'batch')),
    body_hash  bytea NOT NULL,
    object_id  uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, key, kind)
);
CREATE INDEX idempotency_created ON idempotency (created_at);

-- Jobs whose client repeats by habit: the repeat finds its job here.
CREATE TABLE repeats (
    job_id       uuid PRIMARY KEY,
    tenant_id    int NOT NULL,
    body_hash    bytea NOT NULL,
    taken        smallint NOT NULL DEFAULT 0,   -- the number of the repeat that waits for it now
    abandoned_at timestamptz
);
CREATE INDEX repeats_body ON repeats (tenant_id, body_hash);
CREATE INDEX repeats_abandoned ON repeats (abandoned_at) WHERE abandoned_at IS NOT NULL;
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute(
        "DROP TABLE repeats, idempotency, results, requests, details, jobs, flows, lanes, workers, schemas,"
        " model_names, models, api_keys, tenants"
    )
    op.execute("DROP TYPE job_status")
