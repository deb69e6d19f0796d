"""What a model's workers are counted by before any of them runs."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Kept, so that a fleet which has gone down to no worker still knows what one would do.
    op.execute("ALTER TABLE models ADD COLUMN worker_speed real")  # tokens/s of one worker; NULL: never measured


def downgrade() -> None:
    op.execute("ALTER TABLE models DROP COLUMN worker_speed")
