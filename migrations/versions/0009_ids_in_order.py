"""The database's ids sort in the order in which they were made within a millisecond too, as those made in Python do."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# 60 bits of time, in 4096ths of a millisecond: RFC 9562, 6.2, method 3. A UUIDv7's version stands before the last 12 of
# them, and its variant and the random bits after it are those of a UUIDv4.
NEW_ID = """
CREATE OR REPLACE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT CAST(encode(overlay(
        uuid_send(gen_random_uuid())
        PLACING int8send(CAST(CAST(overlay(
            CAST(CAST(floor(extract(epoch FROM clock_timestamp()) * 4096000) AS bigint) AS bit(60))
            PLACING B'0111' FROM 49 FOR 0
        ) AS bit(64)) AS bigint)) FROM 1
    ), 'hex') AS uuid)
$$
"""

COARSE = """
CREATE OR REPLACE FUNCTION new_id() RETURNS uuid LANGUAGE sql VOLATILE AS $$
    SELECT CAST(encode(set_bit(set_bit(overlay(
        uuid_send(gen_random_uuid())
        PLACING substring(int8send(CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)) FROM 3) FROM 1
    ), 52, 1), 53, 1), 'hex') AS uuid)
$$
"""


def upgrade() -> None:
    op.execute(NEW_ID)


def downgrade() -> None:
    op.execute(COARSE)
