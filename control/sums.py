"""What the lines of a batch add up to, and the limits on that, which fail it as a whole."""

from collections import Counter
from typing import Final

from jobs.database import Driver, fetch
from jobs.errors import BadRequest
from jobs.records import Json, NewJob
from jobs.settings import Settings

_EMBEDDINGS: Final = "/v1/embeddings"


class Sums:
    """Of one file: texts to embed, over all lines, and tokens as they are estimated, over the jobs that will run."""

    def __init__(self, tenant_id: int, endpoint: str, settings: Settings) -> None:
        self._tenant_id = tenant_id
        self._embeds = endpoint == _EMBEDDINGS
        self._most_inputs = settings.batch_embedding_inputs
        self._most_tokens = settings.batch_enqueued_tokens
        self._inputs = 0
        self._tokens: Counter[int] = Counter()
        self._names: dict[int, str] = {}
        """What the first of its jobs calls a model, which may have several names."""

    def line(self, body: Json) -> None:
        """A line asks for this."""
        if self._embeds:
            self._inputs += _inputs(body)

    def job(self, job: NewJob) -> None:
        """A line's job, if it has one of its own."""
        self._tokens[job.model_id] += job.cost
        self._names.setdefault(job.model_id, job.model)

    async def check(self, connection: Driver) -> None:
        """Raises BadRequest if these are too many inputs, or too many tokens beside what waits of the tenant's batches.

        OpenAI has both limits, and these words for the second.
        """
        if self._inputs > self._most_inputs:
            message = f"The input file has {self._inputs} inputs to embed, and a batch may have {self._most_inputs}."
            raise BadRequest(message, code="too_many_inputs")
        if self._most_tokens is None:
            return
        [tenant] = await fetch(connection, "tenant_hold", tenant=self._tenant_id)
        for model_id, tokens in self._tokens.items():
            [waiting] = await fetch(connection, "batch_tokens", model=model_id, tenant=self._tenant_id)
            if waiting.tokens + tokens > self._most_tokens:
                raise BadRequest(
                    f"Enqueued token limit reached for {self._names[model_id]} in organization {tenant.name}. Limit: "
                    f"{self._most_tokens:,} enqueued tokens. Please try again once some in_progress batches have been "
                    "completed.",
                    code="token_limit_exceeded",
                )


def _inputs(body: Json) -> int:
    """How many texts a request embeds: one that is a string or a list of tokens, else as many as its list has."""
    value = body.get("input")
    return len(value) if isinstance(value, list) and value and not isinstance(value[0], int) else 1
