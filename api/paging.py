"""Lists: the query parameters of a page and the envelope around it, as OpenAI has them."""

from collections.abc import Callable, Sequence
from typing import Annotated, Final, Literal, TypeAlias, TypeVar
from uuid import UUID

from fastapi import Query

from jobs import ids
from jobs.errors import BadRequest, NotFound
from jobs.records import Json

MOST: Final = 100
Row = TypeVar("Row")

Limit: TypeAlias = Annotated[int, Query(ge=1, le=MOST)]
Order: TypeAlias = Literal["asc", "desc"]


def cursor(after: str | None, prefix: str = "job_") -> UUID | None:
    """The id, of the kind that begins with `prefix`, that a page begins behind.

    Raises:
        BadRequest: it is none.
    """
    if after is None:
        return None
    try:
        return ids.parse(prefix, after, "")
    except NotFound:
        kind = prefix.rstrip("_-")
        message = f"Invalid 'after': '{after:.100}' is no {kind} id."
        raise BadRequest(message, param="after", code="invalid_value") from None


def page(rows: Sequence[Row], limit: int, shown: Callable[[Row], Json]) -> Json:
    """The envelope of a page. `rows` has one more than `limit` where there are more behind it."""
    data = [shown(row) for row in rows[:limit]]
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": len(rows) > limit,
    }
