"""Files, uploads in parts, batches and their lines."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TYPE batch_status AS ENUM (
    'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired', 'cancelling', 'cancelled'
);

CREATE TABLE files (
    id         uuid PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenants,
    purpose    text NOT NULL,
    filename   text NOT NULL,
    bytes      bigint NOT NULL,
    blob       text NOT NULL,           -- its key in the blob store
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    deleted_at timestamptz              -- the blob goes when no batch reads it any more
);
CREATE INDEX files_tenant ON files (tenant_id, id) WHERE deleted_at IS NULL;
CREATE INDEX files_expires ON files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX files_deleted ON files (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE uploads (
    id         uuid PRIMARY KEY,
    tenant_id  int NOT NULL REFERENCES tenants,
    purpose    text NOT NULL,
    filename   text NOT NULL,
    mime_type  text NOT NULL,
    bytes      bigint NOT NULL,
    file_expires_s int,                 -- of the file that it becomes
    status     text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'cancelled', 'expired')),
    file_id    uuid,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    CHECK ((file_id IS NOT NULL) = (status = 'completed'))
);
CREATE INDEX uploads_expires ON uploads (expires_at);

CREATE TABLE upload_parts (
    id         uuid PRIMARY KEY,
    upload_id  uuid NOT NULL REFERENCES uploads ON DELETE CASCADE,
    bytes      bigint NOT NULL,
    blob       text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX upload_parts_upload ON upload_parts (upload_id);

CREATE TABLE batches (
    id                uuid PRIMARY KEY,
    tenant_id         int NOT NULL REFERENCES tenants,
    endpoint          text NOT NULL,
    model             text,
    input_file_id     uuid NOT NULL,
    completion_window text NOT NULL,
    metadata          jsonb,
    output_expires_s  int,
    retry_of          uuid,
    status            batch_status NOT NULL DEFAULT 'validating',
    ending            batch_status NOT NULL DEFAULT 'completed'   -- what it becomes once its files are written
                      CHECK (ending IN ('completed', 'cancelled', 'expired')),
    errors            jsonb,
    output_file_id    uuid,
    error_file_id     uuid,
    total             int NOT NULL DEFAULT 0,
    completed         int NOT NULL DEFAULT 0,
    failed            int NOT NULL DEFAULT 0,
    refused           int NOT NULL DEFAULT 0,   -- by admission: these never ran
    ended             int NOT NULL DEFAULT 0 CHECK (ended BETWEEN completed + failed AND total),
    input_tokens      bigint NOT NULL DEFAULT 0,
    cached_tokens     bigint NOT NULL DEFAULT 0,
    output_tokens     bigint NOT NULL DEFAULT 0,
    reasoning_tokens  bigint NOT NULL DEFAULT 0,
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz NOT NULL,
    in_progress_at    timestamptz,
    finalizing_at     timestamptz,
    completed_at      timestamptz,
    failed_at         timestamptz,
    expired_at        timestamptz,
    cancelling_at     timestamptz,
    cancelled_at      timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
CREATE INDEX batches_tenant ON batches (tenant_id, id);
CREATE INDEX batches_open ON batches (id) WHERE status IN ('validating', 'in_progress', 'finalizing', 'cancelling');

-- What a batch asked for. Several lines may share one job; a line that admission refused has a request and a result
-- under its job_id, but no job.
CREATE TABLE lines (
    batch_id  uuid NOT NULL,
    line      int NOT NULL,
    custom_id text NOT NULL,
    job_id    uuid NOT NULL,
    copy_of   int,                              -- the earlier line that asked for the same job
    status    job_status NOT NULL DEFAULT 'queued',
    ended     int,                              -- the how-manieth of its batch to end
    PRIMARY KEY (batch_id, line)
) WITH (fillfactor = 80);
CREATE UNIQUE INDEX lines_custom_id ON lines (batch_id, custom_id);
CREATE INDEX lines_job ON lines (job_id);
CREATE INDEX flows_batch ON flows (batch_id) WHERE batch_id IS NOT NULL;
ALTER TABLE details DROP COLUMN batch_id, DROP COLUMN custom_id;   -- a line knows them
CREATE INDEX lines_ended ON lines (batch_id, ended) WHERE ended IS NOT NULL;
"""


def upgrade() -> None:
    for statement in STATEMENTS.split(";\n"):
        if statement.strip():
            op.execute(statement)


def downgrade() -> None:
    op.execute("ALTER TABLE details ADD COLUMN batch_id uuid, ADD COLUMN custom_id text")
    op.execute("DROP INDEX flows_batch")
    op.execute("DROP TABLE lines, batches, upload_parts, uploads, files")
    op.execute("DROP TYPE batch_status")
