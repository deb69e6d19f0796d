"""Responses that continue others."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Beside the body, so that a conversation is found turn by turn by one key, and dropped with its days.
    op.execute("ALTER TABLE requests ADD COLUMN previous_id uuid")


def downgrade() -> None:
    op.execute("ALTER TABLE requests DROP COLUMN previous_id")
