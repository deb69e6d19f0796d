"""Requests as the engine gets them: our fields in front, our parameters translated, everything else byte for byte."""

import json
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

import pytest

from jobs.errors import BadRequest
from jobs.records import ClaimedJob, Flags, Json, Outcome, Registration, Tier
from jobs.states import Status
from tests.worker.test_assemble import JOB
from worker.asgi import Application, Headers, Receive, Scope, Send
from worker.dialect import Dialect, Translated, extended
from worker.engines import EngineBusy

ID = UUID("01900000-0000-7000-8000-000000000001")
BOTH: Json = {"properties": {"request_id": {}, "priority": {}}}
CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
HELLO: Final[Json] = {"role": "user", "content": "hello"}
TOKENS: Final = {"yes": [7], "no": [8], "maybe so": [9, 10], "<fim_prefix>": [1], "<fim_suffix>": [2]}
INFILL: Final = TOKENS | {"<fim_middle>": [3]}


class Tokenizer:
    """An engine that only tokenizes, and counts how often it is asked."""

    def __init__(self, tokens: dict[str, list[int]]) -> None:
        self.tokens = tokens
        self.asked: list[str] = []
        self.trouble: int | None = None

    @property
    def app(self) -> Application:
        return self._serve

    def verdict(self, status: int, headers: Headers) -> float | None:
        return 3.0 if status == 503 else None

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads((await receive())["body"])
        assert (scope["path"], body["add_special_tokens"]) == ("/tokenize", False)
        self.asked.append(body["prompt"])
        tokens = self.tokens.get(body["prompt"])
        answer = json.dumps({"tokens": tokens}).encode()
        status = self.trouble or (200 if tokens else 400)
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})


async def told(job_id: UUID) -> list[Json]:
    return [{"role": "user", "content": "before"}, {"role": "assistant", "content": f"as {job_id.hex[-1]}"}]


def dialect(schema: Json, endpoint: str = CHAT, tokenizer: Tokenizer | None = None) -> Dialect:
    endpoints = {endpoint: schema} | ({"/tokenize": {}} if tokenizer else {})
    registration = Registration("m", (), (), endpoints, None, 1)
    return Dialect(registration, tokenizer or Tokenizer({}), told, separate_caches=False)


async def translated(schema: Json, body: bytes, tier: Tier = Tier.BATCH) -> bytes:
    return (await dialect(schema).translate(replace(JOB, id=ID, tier=tier, body=body))).body


async def test_request_id_and_priority_go_in_front() -> None:
    body = b' {"model": "m",\n "n": 1.0}'
    assert (
        await translated(BOTH, body) == b' {"request_id":"%s","priority":3,"model": "m",\n "n": 1.0}' % ID.hex.encode()
    )


async def test_only_fields_that_the_schema_has_are_set() -> None:
    assert json.loads(await translated({"properties": {"priority": {}}}, b'{"n":1}')) == {"priority": 3, "n": 1}
    assert await translated({"properties": {}}, b'{"n":1}') == b'{"n":1}'


async def test_tenants_have_caches_of_their_own_where_they_are_to() -> None:
    registration = Registration("m", (), (), {CHAT: {"properties": {"cache_salt": {}}}}, None, 1)
    salted = Dialect(registration, Tokenizer({}), told, separate_caches=True)
    bodies = [(await salted.translate(replace(JOB, tenant_id=tenant, body=b"{}"))).body for tenant in (1, 2)]
    assert bodies == [b'{"cache_salt":"1"}', b'{"cache_salt":"2"}']
    assert await translated({"properties": {"cache_salt": {}}}, b"{}") == b"{}"


async def test_a_choice_of_schemas_has_a_field_when_all_have() -> None:
    both: Json = {"properties": {"priority": {}, "request_id": {}}}
    one: Json = {"properties": {"priority": {}}}
    schema = {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "$defs": {"A": both, "B": one}}
    assert json.loads(await translated(schema, b'{"n":1}')) == {"priority": 3, "n": 1}


@pytest.mark.parametrize("body", [b"{}", b"{ \n}"])
async def test_an_empty_object_stays_valid_json(body: bytes) -> None:
    assert json.loads(await translated(BOTH, body)) == {"request_id": ID.hex, "priority": 3}


@pytest.mark.parametrize("body", [b"[]", b'[{"a":1}]', b'"{"', b""])
async def test_a_body_that_is_no_object_is_left_to_the_engine(body: bytes) -> None:
    assert await translated(BOTH, body) == body


async def test_the_headers_name_request_and_tier_too() -> None:
    job = replace(JOB, id=ID, tier=Tier.FLEX, endpoint="/v1/messages")
    request = await dialect({}, "/v1/messages").translate(job)
    assert request.headers == ((b"x-request-id", ID.hex.encode()), (b"x-vllm-priority", b"2"))


async def test_a_response_is_named_in_openais_way() -> None:
    job = replace(JOB, id=ID, endpoint="/v1/responses", body=b'{"input":"hi"}')
    request = await dialect(BOTH, "/v1/responses").translate(job)
    assert json.loads(request.body)["request_id"] == f"resp_{ID.hex}"


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/responses/input_tokens"])
@pytest.mark.parametrize("said", [{}, {"store": True, "background": True, "previous_response_id": "resp_1"}])
async def test_an_engine_stores_no_response_and_runs_none_in_its_background(endpoint: str, said: Json) -> None:
    job = replace(JOB, id=ID, endpoint=endpoint, body=json.dumps({"input": "hi", **said}).encode())
    body = json.loads((await dialect({}, endpoint).translate(job)).body)
    assert body == {"input": "hi", "store": False, "background": False, "previous_response_id": None}


async def test_what_is_appended_to_nothing_is_valid_json() -> None:
    job = replace(JOB, endpoint="/v1/responses", body=b"{ }")
    request = await dialect({}, "/v1/responses").translate(job)
    assert json.loads(request.body)["store"] is False


@pytest.mark.parametrize(("asked", "given"), [("fast", "auto"), ("ultrafast", "auto"), ("flex", "flex")])
async def test_a_service_tier_that_the_engine_does_not_know_is_replaced(asked: str, given: str) -> None:
    body = json.dumps({"service_tier": asked, "input": "hi"}).encode() + b" \n"
    job = replace(JOB, endpoint="/v1/responses", body=body, service_tier=asked)
    request = await dialect(BOTH, "/v1/responses").translate(job)
    assert json.loads(request.body)["service_tier"] == given


@pytest.mark.parametrize(("status", "seconds"), [(503, 3), (500, 1)])
async def test_an_engine_that_cannot_tokenize_now_is_no_fault_of_the_request(status: int, seconds: float) -> None:
    busy = Tokenizer({"yes": [7]})
    busy.trouble = status
    job = replace(JOB, flags=Flags.DIALECT, body=b'{"messages":[],"white_list_token":["yes"]}')
    asking = dialect({"properties": {"allowed_token_ids": {}}}, tokenizer=busy)
    with pytest.raises(EngineBusy) as told:
        await asking.translate(job)
    assert told.value.seconds == seconds
    busy.trouble = None
    assert json.loads((await asking.translate(job)).body)["allowed_token_ids"] == [7]


async def test_a_stream_is_asked_for_its_usage() -> None:
    schema: Json = {"properties": {"stream_options": {}}}
    streaming = replace(JOB, id=ID, flags=Flags.STREAMS, body=b'{"stream":true,"stream_options":{"other":1}}')
    request = await dialect(schema).translate(streaming)
    assert json.loads(request.body)["stream_options"] == {"include_usage": True}
    assert (await dialect({}).translate(streaming)).body == streaming.body
    assert (await dialect(schema).translate(replace(streaming, flags=Flags.NONE))).body == streaming.body
    asking = replace(streaming, body=b'{"stream":true,"stream_options":{"include_usage":true}}')
    assert (await dialect(schema).translate(asking)).body == asking.body


async def test_a_stream_with_parameters_of_ours_is_asked_for_its_usage_too() -> None:
    asked = {"messages": [HELLO], "force_prompt": "Sure", "stream": True}
    job = replace(job_of(asked), flags=Flags.DIALECT | Flags.STREAMS)
    body = json.loads((await dialect({"properties": {"stream_options": {}, "echo": {}}}).translate(job)).body)
    assert (body["echo"], body["stream_options"]) == (True, {"include_usage": True})


def job_of(body: Json, endpoint: str = CHAT) -> ClaimedJob:
    return replace(JOB, id=ID, endpoint=endpoint, flags=Flags.DIALECT, body=json.dumps(body).encode())


async def speak(body: Json, endpoint: str = CHAT, tokenizer: Tokenizer | None = None) -> tuple[Json, Translated]:
    """What the engine gets of a body with parameters of ours, and the way back."""
    speaking = dialect({"properties": {"echo": {}}}, endpoint, tokenizer or Tokenizer(TOKENS))
    request = await speaking.translate(job_of(body, endpoint))
    return json.loads(request.body), request


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"white_list_token_ids": [3, 4]}, {"allowed_token_ids": [3, 4]}),
        ({"white_list_token": ["yes", "no"]}, {"allowed_token_ids": [7, 8]}),
        ({"white_list_token_ids": [3], "white_list_token": ["no"]}, {"allowed_token_ids": [3, 8]}),
        ({"logit_bias": {"5": 1, "yes": -2, "-3": 4}}, {"logit_bias": {"5": 1, "7": -2, "-3": 4}}),
        ({"add_default_stop": False}, {"ignore_eos": True}),
        ({"add_default_stop": True}, {}),
        ({"enable_repeat_stopper": False}, {}),
        ({"enable_repeat_stopper": True, "repetition_detection": {"a": 1}}, {"repetition_detection": {"a": 1}}),
        ({"best_of": 1}, {}),
        ({"best_of": 3, "temperature": 0}, {"temperature": 0}),
        ({"best_of": 4, "n": 2}, {"n": 4, "logprobs": True}),
        ({"best_of": 4, "use_beam_search": True}, {"n": 4, "use_beam_search": True}),
        (dict.fromkeys(("white_list_token_ids", "force_prompt", "conversation_id", "best_of", "suffix")), {}),
    ],
)
async def test_a_parameter_becomes_the_engines_own(ours: Json, theirs: Json) -> None:
    assert (await speak({"messages": [HELLO], **ours}))[0] == {"messages": [HELLO], **theirs}


async def test_a_loop_is_the_same_tokens_four_times() -> None:
    body, _ = await speak({"enable_repeat_stopper": True})
    assert body["repetition_detection"]["min_count"] == 4


async def test_an_answer_is_forced_to_begin_with_a_text() -> None:
    body, request = await speak({"messages": [HELLO], "force_prompt": "Sure"})
    assert body == {
        "messages": [HELLO, {"role": "assistant", "content": "Sure"}],
        "continue_final_message": True,
        "add_generation_prompt": False,
        "echo": False,
    }
    choices = [{"message": {"content": ", here"}}, {"message": {"content": None}}]
    outcome = Outcome(Status.COMPLETED, 200, json.dumps({"choices": choices}).encode())
    contents = [choice["message"]["content"] for choice in body_of(request.restore(outcome))["choices"]]
    assert contents == ["Sure, here", "Sure"]


async def test_a_streamed_answer_is_begun_by_the_engine() -> None:
    body, request = await speak({"messages": [HELLO], "force_prompt": "Sure", "stream": True})
    assert (body["echo"], request.edits) == (True, [])


async def test_a_streamed_answer_cannot_be_forced_where_the_engine_does_not_begin_it() -> None:
    """SGLang's chats have `continue_final_message`, and no `echo`."""
    sglang = dialect({"properties": {"continue_final_message": {}}})
    with pytest.raises(BadRequest, match="'force_prompt'") as refused:
        await sglang.translate(job_of({"messages": [HELLO], "force_prompt": "Sure", "stream": True}))
    assert refused.value.param == "force_prompt"
    whole = await sglang.translate(job_of({"messages": [HELLO], "force_prompt": "Sure"}))
    assert len(whole.edits) == 1


async def test_what_was_said_before_goes_in_front() -> None:
    body, _ = await speak({"messages": [HELLO], "conversation_id": 5, "force_prompt": "Sure"})
    contents = [message["content"] for message in body["messages"]]
    assert contents == ["before", "as 1", "hello", "Sure"]


def body_of(outcome: Outcome) -> Any:
    assert outcome.body is not None
    return json.loads(outcome.body)


@pytest.mark.parametrize("shown", [False, True])
async def test_the_best_of_more_samples_are_returned(shown: bool) -> None:
    def choice(index: int, *logprobs: float) -> Json:
        return {"index": index, "text": str(index), "logprobs": {"token_logprobs": logprobs}}

    asked = {"prompt": ["a", "b"], "best_of": 3, "n": 2} | ({"logprobs": 0} if shown else {})
    body, request = await speak(asked, COMPLETIONS)
    assert body == {"prompt": ["a", "b"], "n": 3, "logprobs": 0}
    choices = [choice(0, -3), choice(1, -1, -1), choice(2, -2), choice(3, -1), choice(4), choice(5, -5, -1)]
    usage = {"completion_tokens": 7}
    response = json.dumps({"choices": choices, "usage": usage}).encode()
    answer = body_of(request.restore(Outcome(Status.COMPLETED, 200, response)))
    assert [(choice["index"], choice["text"]) for choice in answer["choices"]] == list(enumerate("1235"))
    assert answer["usage"] == usage
    assert {choice["logprobs"] is not None for choice in answer["choices"]} == {shown}


async def test_a_beam_search_knows_its_best_itself() -> None:
    _, request = await speak({"prompt": "a", "best_of": 3, "n": 2, "use_beam_search": True}, COMPLETIONS)
    choices = [{"index": index, "text": str(index), "logprobs": None} for index in range(3)]
    answer = body_of(request.restore(Outcome(Status.COMPLETED, 200, json.dumps({"choices": choices}).encode())))
    assert [choice["text"] for choice in answer["choices"]] == ["0", "1"]


@pytest.mark.parametrize("prompt", ["a", [1, 2, 3], ["a"], [[1, 2]]])
async def test_the_best_cannot_be_told_without_log_probabilities(prompt: Any) -> None:
    _, request = await speak({"prompt": prompt, "best_of": 2}, COMPLETIONS)
    choices = [{"index": index, "text": str(index)} for index in range(2)]
    outcome = Outcome(Status.COMPLETED, 200, json.dumps({"choices": choices}).encode())
    with pytest.raises(BadRequest, match="'best_of': it needs log-probabilities") as refused:
        request.restore(outcome)
    assert refused.value.param == "best_of"


@pytest.mark.parametrize(("prompt", "filled"), [("a", "P"), (["a", "b"], ["P", "Q"])])
async def test_a_gap_is_filled(prompt: Any, filled: Any) -> None:
    body, _ = await speak({"prompt": prompt, "suffix": "z"}, COMPLETIONS, Tokenizer(INFILL))
    templates = {"P": "<fim_prefix>a<fim_suffix>z<fim_middle>", "Q": "<fim_prefix>b<fim_suffix>z<fim_middle>"}
    expected = templates[filled] if isinstance(filled, str) else [templates[name] for name in filled]
    assert body == {"prompt": expected}


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"white_list_token": ["yes", "maybe so"]}, "white_list_token"),
        ({"white_list_token": ["what"]}, "white_list_token"),
        ({"white_list_token": ["yes"], "allowed_token_ids": [1]}, "white_list_token"),
        ({"white_list_token_ids": [1], "allowed_token_ids": [1]}, "white_list_token_ids"),
        ({"logit_bias": {"maybe so": 1}}, "logit_bias"),
        ({"messages": [HELLO], "force_prompt": "x", "continue_final_message": True}, "force_prompt"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"best_of": 2, "echo": True}, "best_of"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": [1, 2], "suffix": "b"}, "suffix"),
        ({"prompt": "a", "suffix": "b", "echo": True}, "suffix"),
    ],
)
async def test_what_cannot_be_meant_is_refused_by_name(body: Json, name: str) -> None:
    with pytest.raises(BadRequest) as refused:
        await speak(body)
    assert refused.value.param == name
    assert f"'{name}'" in refused.value.message


async def test_tokens_cannot_be_had_from_an_engine_that_does_not_tokenize() -> None:
    with pytest.raises(BadRequest, match="does not tokenize"):
        await dialect({}).translate(job_of({"white_list_token": ["yes"]}))
    with pytest.raises(BadRequest, match="'suffix'"):
        await dialect({}, COMPLETIONS).translate(job_of({"prompt": "a", "suffix": "b"}, COMPLETIONS))


async def test_a_text_is_tokenized_once() -> None:
    tokenizer = Tokenizer(TOKENS)
    speaking = dialect({}, CHAT, tokenizer)
    for _ in range(2):
        await speaking.translate(job_of({"white_list_token": ["yes", "yes"]}))
    assert tokenizer.asked == ["yes"]


async def test_a_refusal_of_the_engine_names_what_the_client_sent() -> None:
    _, request = await speak({"white_list_token_ids": [10**9]})
    error = {"message": "allowed_token_ids contains out-of-vocab token id!", "param": "allowed_token_ids"}
    outcome = request.restore(Outcome(Status.FAILED, 400, json.dumps({"error": error}).encode()))
    assert body_of(outcome)["error"] == {
        "message": "white_list_token_ids contains out-of-vocab token id!",
        "param": "white_list_token_ids",
    }


def test_a_schema_has_our_parameters_where_it_has_what_they_need() -> None:
    schema: Json = {"type": "object", "properties": {"messages": {}, "ignore_eos": {}}}
    registration = extended(Registration("m", (), (), {CHAT: schema, "/v1/embeddings": schema}, None, 1))
    assert set(registration.endpoints[CHAT]["properties"]) == {
        *("messages", "ignore_eos"),
        *("conversation_id", "add_default_stop"),
    }
    assert registration.endpoints["/v1/embeddings"] == schema
