"""What a lane's speed is measured by: the tokens of all its workers since a moment of the database's clock."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE lanes
            ADD COLUMN measured_from   timestamptz,               -- jobs have waited ever since; NULL: they have not
            ADD COLUMN measured_tokens bigint NOT NULL DEFAULT 0  -- that ran since then
    """)


def downgrade() -> None:
    op.execute("ALTER TABLE lanes DROP COLUMN measured_from, DROP COLUMN measured_tokens")
