"""The turns of conversations, in their order."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE turns (
            tenant_id    int NOT NULL,
            conversation text NOT NULL,
            turn         int NOT NULL,
            job_id       uuid NOT NULL UNIQUE,
            PRIMARY KEY (tenant_id, conversation, turn)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE turns")
