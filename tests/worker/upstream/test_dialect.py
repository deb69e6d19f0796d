"""Parameters beyond OpenAI's before real servers: what can be translated over HTTP, and what is refused by name."""

import json
from typing import Final

import pytest

from jobs.admission.parameters import DIALECT, refuse_strangers
from jobs.errors import BadRequest
from jobs.records import Json, Outcome
from jobs.states import Status
from tests.engines.served import Served, openapi
from tests.worker.upstream.conftest import CHAT, MESSAGES, content, run, started
from worker.attempt import BackOff
from worker.dialect import extended

COMPLETIONS: Final = "/v1/completions"
TOKENIZE: Final = "/tokenize"


@pytest.fixture
def vllm(server: Served) -> Served:
    """A server whose chats have what vLLM's have, and whose every text is one token, 7."""
    document = openapi()
    for path in (CHAT, COMPLETIONS):
        _schema(document, path)["properties"] |= {"allowed_token_ids": {}, "repetition_detection": {}}
    _schema(document, CHAT)["properties"] |= {"continue_final_message": {}, "echo": {}}
    document["paths"][TOKENIZE] = {
        "post": {"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}}
    }
    server.gets["/openapi.json"] = (200, document)
    server.posts[TOKENIZE] = (200, {"count": 1, "tokens": [7]}, {})
    return server


def _schema(document: Json, path: str) -> Json:
    found: Json = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"white_list_token_ids": [3, 4]}, {"allowed_token_ids": [3, 4]}),
        ({"white_list_token": ["yes"]}, {"allowed_token_ids": [7]}),
        ({"logit_bias": {"yes": 5, "9": 1}}, {"logit_bias": {"7": 5, "9": 1}}),
        ({"add_default_stop": False}, {"ignore_eos": True}),
        ({"best_of": 1}, {}),
        ({"conversation_id": "tale"}, {"messages": MESSAGES}),
    ],
)
async def test_a_parameter_reaches_the_server_as_its_own(vllm: Served, ours: Json, theirs: Json) -> None:
    async with started(vllm) as engine:
        assert content(await run(engine, ours, text="hello")) == "hello"
    path, _, body = vllm.asked[-1]
    assert path == CHAT
    assert {name: body.get(name) for name in theirs} == theirs
    assert body.keys().isdisjoint(ours.keys() - theirs.keys())


async def test_a_loop_is_stopped_by_the_server(vllm: Served) -> None:
    async with started(vllm) as engine:
        await run(engine, {"enable_repeat_stopper": True})
    assert vllm.asked[-1][2]["repetition_detection"]["min_count"] == 4


async def test_the_server_is_asked_for_a_texts_token_once(vllm: Served) -> None:
    async with started(vllm) as engine:
        await run(engine, {"white_list_token": ["yes", "yes"]})
    (path, _, asked), (after, _, _) = vllm.asked
    assert (path, after) == (TOKENIZE, CHAT)
    assert asked == {"model": "scripted", "prompt": "yes", "add_special_tokens": False}


async def test_a_server_too_busy_to_tokenize_gets_the_job_later(vllm: Served) -> None:
    vllm.posts[TOKENIZE] = (503, {}, {"retry-after": "7"})
    async with started(vllm) as engine:
        back = await run(engine, {"white_list_token": ["yes"]})
    assert isinstance(back, BackOff) and 6 < back.seconds <= 7


async def test_an_answer_begins_as_it_was_forced_to(vllm: Served) -> None:
    async with started(vllm) as engine:
        assert content(await run(engine, {"force_prompt": "Sure"}, text=", here")) == "Sure, here"
    body = vllm.asked[-1][2]
    assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": "Sure"}]
    assert (body["continue_final_message"], body["add_generation_prompt"], body["echo"]) == (True, False, False)


async def test_a_stream_is_begun_by_the_server(vllm: Served) -> None:
    async with started(vllm) as engine:
        await run(engine, {"force_prompt": "Sure", "stream": True})
    assert vllm.asked[-1][2]["echo"] is True


async def test_the_best_of_the_servers_samples_are_returned(vllm: Served) -> None:
    choices = [
        {"index": index, "message": {"content": str(index)}, "logprobs": {"content": [{"logprob": logprob}]}}
        for index, logprob in enumerate((-3.0, -1.0, -2.0))
    ]
    vllm.posts[CHAT] = (200, {"choices": choices}, {})
    async with started(vllm) as engine:
        outcome = await run(engine, {"best_of": 3, "n": 2})
    assert isinstance(outcome, Outcome) and outcome.status is Status.COMPLETED
    assert [choice["message"]["content"] for choice in json.loads(outcome.body or b"")["choices"]] == ["1", "2"]
    assert vllm.asked[-1][2].items() >= {"n": 3, "logprobs": True}.items()


async def test_a_gap_is_filled_by_the_servers_own_tokens(vllm: Served) -> None:
    async with started(vllm) as engine:
        await run(engine, {"prompt": "a", "suffix": "z"}, endpoint=COMPLETIONS)
    assert vllm.asked[-1][2]["prompt"] == "<|fim_prefix|>a<|fim_suffix|>z<|fim_middle|>"


async def test_the_servers_refusal_names_what_the_client_sent(vllm: Served) -> None:
    error = {"message": "allowed_token_ids is too long", "type": "BadRequestError", "param": "allowed_token_ids"}
    vllm.posts[CHAT] = (400, {"error": error}, {})
    async with started(vllm) as engine:
        told = refusal(await run(engine, {"white_list_token_ids": [1]}))
    assert (told["param"], told["message"]) == ("white_list_token_ids", "white_list_token_ids is too long")


def refusal(outcome: Outcome | BackOff) -> Json:
    """The error of a job that ended with a 400."""
    assert isinstance(outcome, Outcome) and (outcome.status, outcome.status_code) == (Status.FAILED, 400)
    error: Json = json.loads(outcome.body or b"")["error"]
    return error


@pytest.mark.parametrize(
    ("asked", "endpoint"),
    [
        ({"white_list_token": ["yes"]}, CHAT),
        ({"logit_bias": {"yes": 5}}, CHAT),
        ({"force_prompt": "Sure", "stream": True}, CHAT),
        ({"best_of": 2}, CHAT),
        ({"prompt": "a", "suffix": "z"}, COMPLETIONS),
    ],
)
async def test_what_a_server_cannot_do_is_refused_by_name(server: Served, asked: Json, endpoint: str) -> None:
    """It does not tokenize, has no `echo` for chats, and makes one sample."""
    async with started(server) as engine:
        told = refusal(await run(engine, asked, endpoint=endpoint))
    assert told["param"] in asked and f"'{told['param']}'" in told["message"]


async def test_a_text_of_several_tokens_is_refused(vllm: Served) -> None:
    vllm.posts[TOKENIZE] = (200, {"count": 2, "tokens": [7, 8]}, {})
    async with started(vllm) as engine:
        told = refusal(await run(engine, {"white_list_token": ["maybe so"]}))
    assert told["param"] == "white_list_token" and "'maybe so'" in told["message"]


async def test_what_needs_more_than_openais_schemas_is_refused_at_once(server: Served) -> None:
    server.gets["/openapi.json"] = (404, {})
    server.posts[CHAT] = (400, {}, {})
    async with started(server) as engine:
        offered = extended(await engine.describe()).endpoints[CHAT]["properties"].keys()
    assert offered & DIALECT.keys() == {"best_of", "conversation_id"}
    for name in DIALECT.keys() - offered:
        with pytest.raises(BadRequest) as refused:
            refuse_strangers(CHAT, {name: "x"}, frozenset(offered))
        assert refused.value.param == name
