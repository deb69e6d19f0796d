"""A request becomes a `NewJob`, or the error that names its fault. Nothing is written here."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from jobs import events, ids, payload, responses
from jobs.admission import kept, media, parameters, terms
from jobs.admission.forms import Form, compile_form
from jobs.admission.sealer import Sealer
from jobs.admission.terms import Terms
from jobs.admission.webhook import Webhook, refuse_of_line
from jobs.catalog import Catalog
from jobs.database import Database
from jobs.endpoints import INFERENCE, MULTIPART, OURS, STREAMING
from jobs.errors import BadRequest, NotFound
from jobs.order import estimate
from jobs.read import StoredRequest
from jobs.records import Flags, IdempotencyKey, Json, Model, NewJob, OwnWebhook, Tenant
from jobs.secrets import Vault
from jobs.settings import Settings

_GENERATING: Final = frozenset({parameters.CHAT, parameters.COMPLETIONS, parameters.RESPONSES, parameters.MESSAGES})
_LASTING: Final = Flags.BACKGROUND | Flags.UNSTORED
"""What a request said that holds for its retries too."""
_SAMPLES: Final = ("n", "best_of")


@dataclass(frozen=True, slots=True)
class Submit:
    """One request as it came. `raw` are the bytes of `body`; `waited` says that a client waits for the response,
    `line` that it is one of a batch, and `traceparent` where its trace goes on."""

    id: UUID
    tenant: Tenant
    endpoint: str
    raw: bytes
    body: Any
    waited: bool
    key: str | None = None
    line: bool = False
    traceparent: str | None = None


class Admission:
    """Admits requests by what the engines registered. Forms are kept by endpoint and hash of the schema."""

    def __init__(self, settings: Settings, catalog: Catalog, database: Database) -> None:
        self._settings = settings
        self._catalog = catalog
        self._database = database
        self.reach = settings.webhook_reach
        self.sealer = Sealer(database, Vault(settings.secret_key))
        self._forms: dict[tuple[str, str], Form] = {}

    async def admit(self, submit: Submit, outside: Terms | None = None) -> NewJob:
        """The job that this request asks for. `outside` are terms given beside the body; they win over its own.

        Raises:
            BadRequest: naming the parameter at fault.
            NotFound: no such model, or it does not serve this endpoint.
        """
        body = _an_object(submit.body)
        inside = terms.read(body, self.reach)
        await self._catalog.current()
        model = self._catalog.find(_model_name(body))
        form = await self._form(model, submit.endpoint)
        parameters.refuse_strangers(submit.endpoint, body, form.names)
        raw, body = _for_the_engine(submit, body, model, form)
        form.check(body, len(raw))
        if not self._settings.media_urls:
            media.refuse_urls(raw, body)
        agreed = inside if outside is None else _joined(outside, inside)
        webhook = None if agreed.webhook is None else await self._webhook(submit, agreed.webhook)
        keeps = kept.read(submit.endpoint, body, submit.line)
        earlier = 0 if keeps.previous is None else await self._earlier(submit.tenant, keeps.previous)
        waited = submit.waited and webhook is None and not keeps.background
        conversation = parameters.conversation(submit.endpoint, body, submit.line)
        digest = _digest(submit.endpoint, submit.raw, outside)
        return NewJob(
            id=submit.id,
            tenant_id=submit.tenant.id,
            model_id=model.id,
            model=body.get("model") or model.name,
            endpoint=submit.endpoint,
            body=raw,
            tier=agreed.tier,
            waited=waited,
            cost=_cost(submit.endpoint, len(raw) + earlier, body, model, agreed),
            timeout_seconds=agreed.timeout or self._settings.timeout_seconds,
            expires_seconds=agreed.expires_after,
            service_tier=agreed.service_tier,
            metadata=agreed.metadata,
            key=IdempotencyKey(submit.key, digest) if submit.key is not None else None,
            repeat_hash=digest if waited else None,
            webhook=webhook,
            flags=(Flags.NONE if waited or submit.line else _told(submit.endpoint, webhook))
            | _streams(submit.endpoint, body)
            | _spoken(body)
            | keeps.flags,
            previous=keeps.previous,
            traceparent=submit.traceparent,
            conversation=None if conversation is None else terms.storable(conversation, "conversation_id"),
        )

    async def again(
        self, tenant: Tenant, old: UUID, request: StoredRequest, key: str | None = None, traceparent: str | None = None
    ) -> NewJob:
        """A new job for a stored request that was admitted once; `key` is the idempotency key of this retry, and
        `traceparent` where its trace goes on.

        Raises:
            NotFound: its model, or the endpoint, is not there any more.
            BadRequest: nor is the conversation that it continues.
        """
        await self._catalog.current()
        model = self._catalog.find(request.model)
        _served(model, request.endpoint)
        body = payload.parse(request.body)
        agreed = Terms(request.tier, request.service_tier, request.metadata, None, request.timeout_seconds)
        earlier = 0 if request.previous is None else await self._earlier(tenant, request.previous)
        return NewJob(
            id=ids.new(),
            tenant_id=tenant.id,
            model_id=model.id,
            model=request.model,
            endpoint=request.endpoint,
            body=request.body,
            tier=request.tier,
            waited=False,
            cost=_cost(request.endpoint, len(request.body) + earlier, body, model, agreed),
            timeout_seconds=request.timeout_seconds,
            service_tier=request.service_tier,
            metadata=request.metadata,
            key=IdempotencyKey(key, _digest("retry", old.bytes, None)) if key is not None else None,
            retry_of=old,
            webhook=request.webhook,
            flags=_told(request.endpoint, request.webhook)
            | _streams(request.endpoint, body)
            | _spoken(body)
            | request.flags & _LASTING,
            previous=request.previous,
            traceparent=traceparent,
            conversation=parameters.conversation(request.endpoint, body, line=False),
        )

    async def _earlier(self, tenant: Tenant, previous: UUID) -> int:
        return await responses.measure(self._database, tenant.id, previous, self._settings.body_limit_bytes)

    async def _webhook(self, submit: Submit, asked: Webhook) -> OwnWebhook:
        if submit.line:
            refuse_of_line(asked)
        if submit.endpoint != parameters.RESPONSES and not set(events.RESPONSE).isdisjoint(asked.event_types):
            message = f"Invalid 'webhook.events': only {parameters.RESPONSES} has events of the kind 'response.*'."
            raise BadRequest(message, param="webhook.events", code="invalid_value")
        return await self.sealer.seal(submit.tenant.id, asked)

    async def _form(self, model: Model, endpoint: str) -> Form:
        schema_hash = _served(model, endpoint)
        form = self._forms.get((endpoint, schema_hash))
        if form is None:
            form = compile_form(endpoint, self._catalog.schema(schema_hash))
            self._forms[endpoint, schema_hash] = form
        return form


def allowed(endpoint: object) -> str:
    """The same path, if it is one that a tenant may reach.

    Raises:
        BadRequest: it is not.
    """
    if isinstance(endpoint, str) and endpoint in INFERENCE:
        return endpoint
    if isinstance(endpoint, str) and endpoint in MULTIPART:
        raise BadRequest(multipart_refused(endpoint), param="endpoint", code="unsupported_endpoint")
    supported = ", ".join(map(repr, sorted(INFERENCE)))
    message = f"Invalid value: '{endpoint!s:.100}'. Supported values are: {supported}."
    raise BadRequest(message, param="endpoint", code="invalid_value")


def multipart_refused(endpoint: str) -> str:
    """Why an endpoint whose bodies are no JSON is not served."""
    return f"{endpoint} takes multipart/form-data, which this server does not queue."


def _an_object(body: Any) -> Json:
    if not isinstance(body, dict):
        raise BadRequest("The request body must be a JSON object.", code="invalid_type")
    return body


def _model_name(body: Json) -> str | None:
    name = body.get("model")
    if name is None:
        return None
    if not isinstance(name, str):
        raise BadRequest("Invalid type for 'model': expected a string.", param="model", code="invalid_type")
    return terms.storable(name, "model")


def _served(model: Model, endpoint: str) -> str:
    """The hash of the schema of this endpoint's payload."""
    schema_hash = model.endpoints.get(endpoint)
    if schema_hash is None:
        served = ", ".join(sorted(INFERENCE & model.endpoints.keys()))
        message = f"The model `{model.name}` does not serve {endpoint}. It serves: {served}."
        raise NotFound(message, param="model", code="unsupported_endpoint")
    return schema_hash


def _for_the_engine(submit: Submit, body: Json, model: Model, form: Form) -> tuple[bytes, Json]:
    """The body that is stored: the client's bytes, unless a field of ours has to come out or the model's name in."""
    ours = [name for name in OURS if name in body]
    if "service_tier" in body and body["service_tier"] is None:
        ours.append("service_tier")
    nameless = body.get("model") is None and "model" in form.names
    if not ours and not nameless:
        return submit.raw, body
    kept = {name: value for name, value in body.items() if name not in ours}
    if nameless:
        kept["model"] = model.name
    return payload.write(kept), kept


def _told(endpoint: str, webhook: OwnWebhook | None) -> Flags:
    """What the terminal gate needs to know of a job whose end may be told."""
    flags = Flags.TELLS if webhook is None else Flags.TELLS | Flags.WEBHOOK
    return flags | Flags.RESPONSES if endpoint == parameters.RESPONSES else flags


def _streams(endpoint: str, body: Json) -> Flags:
    return Flags.STREAMS if endpoint in STREAMING and body.get("stream") else Flags.NONE


def _spoken(body: Json) -> Flags:
    return Flags.DIALECT if parameters.speaks_dialect(body) else Flags.NONE


def _joined(outside: Terms, inside: Terms) -> Terms:
    named = outside if outside.service_tier is not None else inside
    return Terms(
        tier=named.tier,
        service_tier=named.service_tier,
        metadata=inside.metadata if outside.metadata is None else outside.metadata,
        expires_after=outside.expires_after or inside.expires_after,
        timeout=outside.timeout or inside.timeout,
        webhook=outside.webhook or inside.webhook,
    )


def _digest(endpoint: str, raw: bytes, outside: Terms | None) -> bytes:
    """16 bytes that tell whether the same request came again."""
    digest = hashlib.blake2b(endpoint.encode(), digest_size=16)
    digest.update(b"\0" + raw)
    if outside is not None:
        digest.update(repr(outside).encode())
    return digest.digest()


def _cost(endpoint: str, size: int, body: Json, model: Model, agreed: Terms) -> int:
    """Estimated tokens for so many bytes of input: what is not generated costs its input alone."""
    if endpoint not in _GENERATING:
        return estimate(size, 0, 1, model, agreed.tier)
    prompts = body.get("prompt")
    together = len(prompts) if isinstance(prompts, list) and prompts and isinstance(prompts[0], (str, list)) else 1
    samples = max((body[name] for name in _SAMPLES if isinstance(body.get(name), int)), default=1)
    return estimate(size, parameters.output_limit(body), together * samples, model, agreed.tier)
