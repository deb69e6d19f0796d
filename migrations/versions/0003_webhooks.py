"""Webhook endpoints, requests' own webhooks, the secrets that sign, deliveries and their attempts."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TYPE delivery_status AS ENUM ('pending', 'succeeded', 'failed');

-- A UUIDv7: the random bits of a version 4, 48 bits of Unix milliseconds in front, the version's digit 7.
CREATE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT CAST(encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)) FROM 3) FROM 1
    ), 52, 1), 53, 1), 'hex') AS uuid)
$$;

-- An event is what became of one job or batch, so it needs no row to have an id.
CREATE FUNCTION event_id(subject uuid, type text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'evt_' || left(encode(sha256(convert_to(CAST(subject AS text) || type, 'UTF8')), 'hex'), 32)
$$;

CREATE FUNCTION event_body(subject uuid, type text, at timestamptz) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT convert_to('{"id":"' || event_id(subject, type) || '","object":"event","created_at":'
        || CAST(floor(extract(epoch FROM at)) AS bigint) || ',"type":"' || type || '","data":{"id":"'
        || CASE split_part(type, '.', 1) WHEN 'batch' THEN 'batch_' WHEN 'response' THEN 'resp_' ELSE 'job_' END
        || replace(CAST(subject AS text), '-', '') || '"}}', 'UTF8')
$$;

CREATE TABLE webhook_endpoints (
    id              uuid PRIMARY KEY,
    tenant_id       int NOT NULL REFERENCES tenants,
    name            text NOT NULL,
    url             text NOT NULL,
    event_types     text[] NOT NULL,
    header_names    text[] NOT NULL,
    headers         bytea,              -- encrypted
    lane            bigint NOT NULL,    -- deliveries of one lane share a receiver and what it can take
    disabled_at     timestamptz,
    disabled_reason text,
    failing_since   timestamptz,        -- the first failure after the last success
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);
CREATE INDEX webhook_endpoints_tenant ON webhook_endpoints (tenant_id, id);

CREATE TABLE webhook_secrets (
    id          uuid PRIMARY KEY DEFAULT new_id(),
    tenant_id   int NOT NULL REFERENCES tenants,
    endpoint_id uuid REFERENCES webhook_endpoints ON DELETE CASCADE,    -- null: the tenant's default
    secret      bytea NOT NULL,         -- encrypted
    hint        text NOT NULL,          -- its last four characters
    expires_at  timestamptz             -- null: the current one
);
CREATE UNIQUE INDEX webhook_secrets_current ON webhook_secrets (tenant_id, endpoint_id) NULLS NOT DISTINCT
    WHERE expires_at IS NULL;
CREATE INDEX webhook_secrets_endpoint ON webhook_secrets (endpoint_id);
CREATE INDEX webhook_secrets_default ON webhook_secrets (tenant_id) WHERE endpoint_id IS NULL;

-- The webhook that a request or a batch brought itself.
CREATE TABLE own_webhooks (
    subject_id      uuid PRIMARY KEY,
    lane            bigint NOT NULL,
    event_types     text[] NOT NULL,
    includes_result boolean NOT NULL,
    target          bytea NOT NULL      -- encrypted: its URL, secret and headers
);

-- One event for one receiver. While it is claimed, `next_at` is when it may be claimed again: a crash needs no rescue.
CREATE TABLE deliveries (
    id              uuid PRIMARY KEY,
    subject_id      uuid NOT NULL,
    endpoint_id     uuid,               -- null: its subject's own webhook
    tenant_id       int NOT NULL,
    lane            bigint NOT NULL,
    lease_token     int NOT NULL DEFAULT 0,
    attempts        smallint NOT NULL DEFAULT 0,    -- since it is pending
    status          delivery_status NOT NULL DEFAULT 'pending',
    includes_result boolean NOT NULL DEFAULT false, -- still to be put into the body, before the first attempt
    test            boolean NOT NULL DEFAULT false,
    type            text NOT NULL,
    body            bytea NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    pending_since   timestamptz DEFAULT now(),
    next_at         timestamptz DEFAULT now(),
    CHECK ((pending_since IS NOT NULL) = (status = 'pending')),
    CHECK ((next_at IS NOT NULL) = (status = 'pending'))
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX deliveries_due ON deliveries (lane, next_at) WHERE status = 'pending';
CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, id) WHERE endpoint_id IS NOT NULL;
CREATE INDEX deliveries_subject ON deliveries (subject_id, id);

CREATE TABLE delivery_attempts (
    delivery_id uuid NOT NULL,
    lease_token int NOT NULL,
    at          timestamptz NOT NULL,
    latency_ms  int,                    -- null: nothing was sent
    status_code smallint,
    error       text,                   -- why there is no status code, or why it is a failure
    answer      bytea,                  -- its first KB
    PRIMARY KEY (delivery_id, lease_token)
);
ALTER TABLE details DROP COLUMN webhook;
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE details ADD COLUMN webhook jsonb")
    op.execute("DROP TABLE delivery_attempts, deliveries, own_webhooks, webhook_secrets, webhook_endpoints")
    op.execute("DROP FUNCTION event_body, event_id, new_id")
    op.execute("DROP TYPE delivery_status")
