"""Parameters beyond OpenAI's on real vLLM: not that they are taken, but what they do."""

import json
import time
from itertools import pairwise
from typing import Any, Final

import httpx
import pytest

from jobs.records import Json
from longhaul import tiny_model
from tests.end_to_end.conftest import TINY, Stack
from tests.end_to_end.test_vllm_answers import of_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
HELLO: Final[list[Json]] = [{"role": "user", "content": "hello"}]
GREEDY: Final[Json] = {
    "model": TINY,
    "temperature": 0,
    "max_tokens": 8,
    "ignore_eos": True,
    "return_token_ids": True,
}
HOT: Final[Json] = GREEDY | {"temperature": 2, "seed": 5}
ROUND: Final = {" the": 100}
"""The bias of a model that says nothing else."""


def answered(http: httpx.Client, path: str, body: Json) -> Any:
    response = http.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def completed(http: httpx.Client, **more: Any) -> Any:
    """The first choice of a greedy completion."""
    return answered(http, COMPLETIONS, {**GREEDY, "prompt": "once upon a time", **more})["choices"][0]


def chatted(http: httpx.Client, **more: Any) -> Any:
    """The whole answer to a greedy chat."""
    return answered(http, CHAT, {**GREEDY, "messages": HELLO, **more})


def streamed(http: httpx.Client, **more: Any) -> str:
    """The content of a greedy chat that is streamed."""
    response = http.post(CHAT, json={**GREEDY, "messages": HELLO, "stream": True, **more})
    assert response.headers["content-type"].startswith("text/event-stream"), response.text
    *events, done = [line.removeprefix("data: ") for line in response.text.splitlines() if line]
    assert done == "[DONE]"
    return "".join(json.loads(event)["choices"][0]["delta"].get("content") or "" for event in events)


def text_of(chat: Any) -> str:
    return str(chat["choices"][0]["message"]["content"])


def tokens_of(http: httpx.Client, text: str) -> list[int]:
    body = {"model": TINY, "prompt": text, "add_special_tokens": False}
    tokens: list[int] = answered(http, "/tokenize", body)["tokens"]
    return tokens


def token_of(http: httpx.Client, text: str) -> int:
    [token] = tokens_of(http, text)
    return token


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_only_tokens_of_the_white_list_are_produced(http: httpx.Client, path: str) -> None:
    asked = {**HOT, **({"messages": HELLO} if path == CHAT else {"prompt": "once"})}
    allowed = [token_of(http, text) for text in (" the", " of")]
    for listed in ({"white_list_token_ids": allowed}, {"white_list_token": [" the", " of"]}):
        choice = answered(http, path, asked | {"max_tokens": 40} | listed)["choices"][0]
        assert set(choice["token_ids"]) == set(allowed)


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_bias_names_its_token_by_text(http: httpx.Client, path: str) -> None:
    asked = {**GREEDY, **({"messages": HELLO} if path == CHAT else {"prompt": "once"})}
    choice = answered(http, path, asked | {"logit_bias": ROUND})["choices"][0]
    assert choice["token_ids"] == [token_of(http, " the")] * 8
    by_id = {str(token_of(http, " the")): 100}
    assert answered(http, path, asked | {"logit_bias": by_id})["choices"][0]["token_ids"] == choice["token_ids"]


def test_an_answer_begins_as_it_was_forced_to(stack: Stack, http: httpx.Client) -> None:
    forced = chatted(http, force_prompt="Sure, the")
    prefilled = {"messages": [*HELLO, {"role": "assistant", "content": "Sure, the"}]}
    openly = {"continue_final_message": True, "add_generation_prompt": False}
    alone = of_vllm(stack, CHAT, GREEDY | prefilled | openly).json()
    assert text_of(forced) == "Sure, the" + text_of(alone)
    assert text_of(forced) != "Sure, the" + text_of(chatted(http))
    assert forced["usage"]["prompt_tokens"] == chatted(http)["usage"]["prompt_tokens"] + 4


def test_a_loop_is_stopped(http: httpx.Client) -> None:
    endless = completed(http, logit_bias=ROUND, max_tokens=200)
    assert (endless["finish_reason"], len(endless["token_ids"])) == ("length", 200)
    stopped = completed(http, logit_bias=ROUND, max_tokens=200, enable_repeat_stopper=True)
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", "repetition")
    assert len(stopped["token_ids"]) == 16


@pytest.mark.parametrize("without", [{"add_default_stop": False}, {"ignore_eos": True}])
def test_the_models_own_stops_are_left_out(http: httpx.Client, without: Json) -> None:
    ending = {"logit_bias": {tiny_model.END: 100}, "ignore_eos": False}
    stopped = completed(http, **ending)
    assert (stopped["finish_reason"], len(stopped["token_ids"])) == ("stop", 1)
    assert len(completed(http, **(ending | without))["token_ids"]) == 8


def test_a_conversation_is_continued(stack: Stack, http: httpx.Client) -> None:
    said: list[Json] = []
    for text in ("hello", "and then", "is that all"):
        said.append({"role": "user", "content": text})
        expected = of_vllm(stack, CHAT, {**GREEDY, "messages": said}).json()
        answer = chatted(http, messages=said[-1:], conversation_id="tales")
        assert answer["choices"] == expected["choices"]
        assert answer["usage"]["prompt_tokens"] == expected["usage"]["prompt_tokens"]
        said.append({"role": "assistant", "content": text_of(answer)})
    elsewhere = chatted(http, messages=said[-2:-1], conversation_id=7)
    assert elsewhere["usage"]["prompt_tokens"] < answer["usage"]["prompt_tokens"]


def test_a_streamed_answer_of_a_conversation_is_remembered(http: httpx.Client) -> None:
    name = f"streamed {time.time()}"
    said: list[Json] = [*HELLO, {"role": "assistant", "content": streamed(http, conversation_id=name)}]
    said.append({"role": "user", "content": "and then"})
    answer = chatted(http, messages=said[-1:], conversation_id=name)
    whole = chatted(http, messages=said)
    assert answer["choices"] == whole["choices"]
    assert answer["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]


def test_a_forced_beginning_is_the_first_of_a_stream(http: httpx.Client) -> None:
    forced = streamed(http, force_prompt="Sure thing")
    assert forced.startswith("Sure thing")
    assert forced == text_of(chatted(http, force_prompt="Sure thing"))


def test_turns_run_one_after_another_and_a_failed_one_frees_the_next(http: httpx.Client) -> None:
    conversation = f"queue {time.time()}"
    bodies = [
        {**GREEDY, "messages": [{"role": "user", "content": f"turn {number}"}], "conversation_id": conversation}
        for number in range(4)
    ]
    bodies[1]["max_tokens"] = 5000
    accepted = http.post("/v1/jobs", json=[{"endpoint": CHAT, "body": body} for body in bodies]).json()["data"]
    jobs = [http.get(f"/v1/jobs/{job['id']}", params={"wait": 50}).json() for job in accepted]
    assert [job["status"] for job in jobs] == ["completed", "failed", "completed", "completed"]
    assert all(after["started_at"] >= before["finished_at"] for before, after in pairwise(jobs))
    lengths = [job["usage"]["input_tokens"] for job in jobs if job["status"] == "completed"]
    assert lengths == sorted(set(lengths))


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_the_best_of_many_samples_are_returned(stack: Stack, http: httpx.Client, path: str) -> None:
    asked = {**HOT, "temperature": 1} | ({"messages": HELLO} if path == CHAT else {"prompt": "once"})
    shown = {"logprobs": True} if path == CHAT else {"logprobs": 0}
    every = of_vllm(stack, path, asked | shown | {"n": 8}).json()

    def mean(choice: Any) -> float:
        logprobs = choice["logprobs"]
        values = logprobs.get("token_logprobs") or [token["logprob"] for token in logprobs["content"]]
        return float(sum(values) / len(values))

    expected = sorted(every["choices"], key=mean, reverse=True)[:2]
    answer = answered(http, path, asked | {"best_of": 8, "n": 2})
    assert [choice["token_ids"] for choice in answer["choices"]] == [choice["token_ids"] for choice in expected]
    assert [choice["index"] for choice in answer["choices"]] == [0, 1]
    assert {choice["logprobs"] is None for choice in answer["choices"]} == {True}
    assert answer["usage"]["completion_tokens"] == 8 * 8


def test_a_gap_is_filled_between_prompt_and_suffix(stack: Stack, http: httpx.Client) -> None:
    before, behind, gap = tiny_model.INFILL
    filled = completed(http, prompt="def add(a, b):", suffix="return c")
    template = {**GREEDY, "prompt": f"{before}def add(a, b):{behind}return c{gap}"}
    assert filled["token_ids"] == of_vllm(stack, COMPLETIONS, template).json()["choices"][0]["token_ids"]
    assert filled["prompt_token_ids"][:1] == [token_of(http, before)]
    assert filled["token_ids"] != completed(http, prompt="def add(a, b):")["token_ids"]


def test_a_prompt_is_echoed(http: httpx.Client) -> None:
    echoed = completed(http, echo=True, return_token_ids=False)["text"]
    assert echoed == "once upon a time" + completed(http)["text"]
    begun = [*HELLO, {"role": "assistant", "content": "Once"}]
    more = {"messages": begun, "continue_final_message": True, "add_generation_prompt": False}
    assert text_of(chatted(http, **more, echo=True)) == "Once" + text_of(chatted(http, **more))


def likelihood(http: httpx.Client, prompt: list[int], tokens: list[int]) -> float:
    """The log-probability of these tokens behind a prompt."""
    scored = completed(http, prompt=prompt + tokens, echo=True, max_tokens=0, logprobs=0)
    return float(sum(scored["logprobs"]["token_logprobs"][len(prompt) :]))


def test_a_beam_search_finds_likelier_text_than_greed(http: httpx.Client) -> None:
    prompt = tokens_of(http, "once upon a time")
    beams = answered(http, COMPLETIONS, {**GREEDY, "prompt": prompt, "use_beam_search": True, "n": 8})["choices"]
    scores = [likelihood(http, prompt, beam["token_ids"]) for beam in beams]
    assert len({tuple(beam["token_ids"]) for beam in beams}) == 8
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > likelihood(http, prompt, completed(http, prompt=prompt)["token_ids"])
    search = {**GREEDY, "prompt": prompt, "use_beam_search": True}
    best = answered(http, COMPLETIONS, search | {"best_of": 8, "n": 2})["choices"]
    assert [beam["token_ids"] for beam in best] == [beam["token_ids"] for beam in beams[:2]]


def test_a_length_penalty_chooses_between_short_and_long_beams(http: httpx.Client) -> None:
    """Where the end is among the likeliest first tokens: it costs less than more text does, until length is paid."""
    end = token_of(http, tiny_model.END)
    singles = [[token] for token in range(256, 1280)]
    first = answered(
        http,
        COMPLETIONS,
        {**GREEDY, "prompt": singles, "max_tokens": 1, "logprobs": 16, "return_tokens_as_token_ids": True},
    )["choices"]
    prompt = next(
        prompt
        for prompt, choice in zip(singles, first, strict=True)
        if f"token_id:{end}" in choice["logprobs"]["top_logprobs"][0]
    )
    search = {"prompt": prompt, "use_beam_search": True, "n": 8, "max_tokens": 4, "ignore_eos": False}
    assert completed(http, **search, length_penalty=0)["finish_reason"] == "stop"
    assert completed(http, **search, length_penalty=5)["finish_reason"] == "length"


@pytest.mark.parametrize("coldest", [{"top_k": 1}, {"min_p": 1}])
def test_a_narrow_choice_leaves_only_the_likeliest(http: httpx.Client, coldest: Json) -> None:
    def chosen_and_likeliest(**more: Any) -> tuple[list[float], list[float]]:
        logprobs = completed(http, **{**HOT, "logprobs": 1, **more})["logprobs"]
        return logprobs["token_logprobs"], [max(top.values()) for top in logprobs["top_logprobs"]]

    chosen, likeliest = chosen_and_likeliest()
    assert chosen != likeliest
    chosen, likeliest = chosen_and_likeliest(**coldest)
    assert chosen == likeliest


def test_a_repetition_penalty_makes_every_token_new(http: httpx.Client) -> None:
    liking = {"logit_bias": {" the": 3}, "max_tokens": 30}
    assert len(set(completed(http, **liking)["token_ids"])) < 30
    assert len(set(completed(http, **liking, repetition_penalty=1000)["token_ids"])) == 30


def test_a_token_stops(http: httpx.Client) -> None:
    whole = completed(http)["token_ids"]
    stopped = completed(http, stop_token_ids=[whole[3]])
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", whole[3])
    assert stopped["token_ids"] == whole[: whole.index(whole[3]) + 1]


def test_the_string_that_stops_is_shown_on_request(http: httpx.Client) -> None:
    stop = {"logit_bias": ROUND, "stop": "the the"}
    assert completed(http, **stop)["text"] == " "
    assert completed(http, **stop, include_stop_str_in_output=True)["text"] == " the the"


def test_special_tokens_are_shown_on_request(http: httpx.Client) -> None:
    """`spaces_between_special_tokens` does nothing here: a byte-level tokenizer puts none between any tokens."""
    special = {"white_list_token": [tiny_model.USER], "max_tokens": 2}
    assert completed(http, **special)["text"] == ""
    shown = special | {"skip_special_tokens": False}
    for spaces in (True, False):
        assert completed(http, **shown, spaces_between_special_tokens=spaces)["text"] == tiny_model.USER * 2


def test_the_turn_of_the_assistant_is_opened_on_request(http: httpx.Client) -> None:
    opened, closed = chatted(http), chatted(http, add_generation_prompt=False)
    assert opened["usage"]["prompt_tokens"] == closed["usage"]["prompt_tokens"] + 1


@pytest.mark.parametrize(
    ("path", "wrong", "param"),
    [
        (CHAT, {"white_list_token_ids": []}, "white_list_token_ids"),
        (CHAT, {"white_list_token_ids": ["5"]}, "white_list_token_ids.0"),
        (CHAT, {"white_list_token_ids": [10**6]}, "white_list_token_ids"),
        (CHAT, {"white_list_token": "the"}, "white_list_token"),
        (CHAT, {"white_list_token": ["many tokens are in this"]}, "white_list_token"),
        (CHAT, {"logit_bias": {"many tokens are in this": 1}}, "logit_bias"),
        (CHAT, {"force_prompt": ["x"]}, "force_prompt"),
        (CHAT, {"force_prompt": "x", "continue_final_message": True}, "force_prompt"),
        (CHAT, {"enable_repeat_stopper": 1}, "enable_repeat_stopper"),
        (CHAT, {"add_default_stop": "no"}, "add_default_stop"),
        (CHAT, {"conversation_id": ["a"]}, "conversation_id"),
        (CHAT, {"conversation_id": ""}, "conversation_id"),
        (CHAT, {"conversation_id": "a\0b"}, "conversation_id"),
        (CHAT, {"best_of": 0}, "best_of"),
        (CHAT, {"best_of": 2, "n": 3}, "best_of"),
        (CHAT, {"best_of": 2, "stream": True}, "best_of"),
        (CHAT, {"suffix": "x"}, "suffix"),
        (COMPLETIONS, {"suffix": "x", "echo": True}, "suffix"),
        (COMPLETIONS, {"suffix": "x", "prompt": [1, 2]}, "suffix"),
        (COMPLETIONS, {"force_prompt": "x"}, "force_prompt"),
        (COMPLETIONS, {"conversation_id": "x"}, "conversation_id"),
        (COMPLETIONS, {"top_k": "many"}, "top_k"),
    ],
)
def test_bad_values_are_named(http: httpx.Client, path: str, wrong: Json, param: str) -> None:
    body = {**GREEDY, "temperature": 1, **({"messages": HELLO} if path == CHAT else {"prompt": "once"}), **wrong}
    response = http.post(path, json=body)
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, param)
    assert param.partition(".")[0] in error["message"]
