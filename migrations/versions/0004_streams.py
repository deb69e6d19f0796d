"""The logs of streams."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Insert-only and a partition a day, as requests and results.
    op.execute(
        """
        CREATE TABLE streams (
            job_id uuid PRIMARY KEY,
            run    int NOT NULL,        -- the lease token under which it was said
            first  int NOT NULL,        -- the number of its first event: those before were of runs that were lost
            body   bytea NOT NULL       -- packed
        ) PARTITION BY RANGE (job_id)
        """
    )
    op.execute("ALTER TABLE streams ALTER body SET STORAGE EXTERNAL")
    op.execute("CREATE TABLE streams_default PARTITION OF streams DEFAULT")


def downgrade() -> None:
    op.execute("DROP TABLE streams")
