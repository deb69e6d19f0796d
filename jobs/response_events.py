"""The events of a streamed response that tell of the response itself, as OpenAI's reference has them."""

from typing import Final

from jobs.payload import write
from jobs.records import Json

ENDS: Final = ("completed", "incomplete", "failed")
"""What the last event of a response tells, by its status."""


def event(kind: str, response: Json, number: int) -> bytes:
    """`response.KIND`, with the whole response as it then is. `number` counts the events of the response from 0."""
    name = f"response.{kind}"
    content = {"type": name, "sequence_number": number, "response": response}
    return b"event: %s\ndata: %s\n\n" % (name.encode(), write(content))


def opening(begun: Json) -> list[bytes]:
    """The first events of a response in the background, which are known before anybody runs it."""
    return [event(kind, begun, number) for number, kind in enumerate(("created", "queued"))]
