"""The tables that readers query with conditions of their caller's choice; everything else is a statement in `sql/`."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Enum,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from jobs.states import Status

metadata: Final = MetaData()

JOBS: Final = Table(
    "jobs",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("flow_id", Integer),
    Column("tenant_id", Integer),
    Column("status", Enum(Status, name="job_status", values_callable=lambda statuses: [s.value for s in statuses])),
    Column("tier", SmallInteger),
    Column("flags", SmallInteger),
    Column("attempts", SmallInteger),
    Column("timeout_s", Integer),
    Column("created_at", DateTime(timezone=True)),
    Column("started_at", DateTime(timezone=True)),
    Column("finished_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
)
DETAILS: Final = Table(
    "details",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("metadata", JSONB),
    Column("service_tier", Text),
    Column("retry_of", Uuid),
)
LINES: Final = Table(
    "lines",
    metadata,
    Column("batch_id", Uuid, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("custom_id", Text),
    Column("job_id", Uuid),
    Column("copy_of", Integer),
)
REQUESTS: Final = Table(
    "requests",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("endpoint", Text),
    Column("model", Text),
    Column("body", LargeBinary),
    Column("previous_id", Uuid),
)
RESULTS: Final = Table(
    "results",
    metadata,
    Column("job_id", Uuid, primary_key=True),
    Column("status_code", SmallInteger),
    Column("body", LargeBinary),
    Column("error_code", Text),
    Column("error_message", Text),
    Column("input_tokens", Integer),
    Column("cached_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
)
FILES: Final = Table(
    "files",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Integer),
    Column("purpose", Text),
    Column("filename", Text),
    Column("bytes", BigInteger),
    Column("blob", Text),
    Column("created_at", DateTime(timezone=True)),
    Column("expires_at", DateTime(timezone=True)),
    Column("deleted_at", DateTime(timezone=True)),
)
