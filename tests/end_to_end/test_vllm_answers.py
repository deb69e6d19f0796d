"""The same greedy request to Longhaul and to vLLM's own app: the same answer, field by field; only names are ours."""

from typing import Any

import httpx
import pytest

from jobs.records import Json
from tests.end_to_end.conftest import ADAPTER, EMBED, TINY, Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

HELLO = [{"role": "user", "content": "hello"}]
GREEDY: Json = {"model": TINY, "temperature": 0, "max_tokens": 8}
CASES: dict[str, tuple[str, Json]] = {
    "chat": ("/v1/chat/completions", GREEDY | {"messages": HELLO}),
    "chat by an alias": ("/v1/chat/completions", GREEDY | {"messages": HELLO, "model": "/srv/models/tiny"}),
    "chat with logprobs": ("/v1/chat/completions", GREEDY | {"messages": HELLO, "logprobs": True, "top_logprobs": 2}),
    "chat with extras": (
        "/v1/chat/completions",
        GREEDY | {"messages": HELLO, "top_k": 5, "return_token_ids": True},
    ),
    "completions": ("/v1/completions", GREEDY | {"prompt": ["once upon", "a time"], "logprobs": 1, "echo": True}),
    "completion of tokens": ("/v1/completions", GREEDY | {"prompt": [300, 301, 302]}),
    "messages": ("/v1/messages", GREEDY | {"messages": HELLO}),
    "count of tokens": ("/v1/messages/count_tokens", {"model": TINY, "messages": HELLO}),
    "tokenize": ("/tokenize", {"model": TINY, "prompt": "hello", "return_token_strs": True}),
    "detokenize": ("/detokenize", {"model": TINY, "tokens": [300, 301]}),
    "embeddings": ("/v1/embeddings", {"model": EMBED, "input": ["hello", "there"]}),
    "embeddings by an adapter": ("/v1/embeddings", {"model": ADAPTER, "input": ["hello", "there"]}),
    "score": ("/v1/score", {"model": EMBED, "text_1": "hello", "text_2": ["hello", "there"]}),
    "rerank": ("/v1/rerank", {"model": EMBED, "query": "hello", "documents": ["there", "hello"], "top_n": 1}),
    "pooling": ("/pooling", {"model": EMBED, "input": "hello", "task": "embed"}),
}
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
LOOK = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PIXEL}}]}
REFUSED: dict[str, tuple[str, Json]] = {
    "prompt too long": ("/v1/chat/completions", GREEDY | {"messages": [{"role": "user", "content": "word " * 3000}]}),
    "max_tokens too large": ("/v1/chat/completions", GREEDY | {"messages": HELLO, "max_tokens": 5000}),
    "an image for a model that does not see": ("/v1/chat/completions", GREEDY | {"messages": [LOOK]}),
    "n without sampling": ("/v1/completions", GREEDY | {"prompt": "once upon", "n": 2}),
    "no grammar": ("/v1/chat/completions", GREEDY | {"messages": HELLO, "structured_outputs": {"regex": "(("}}),
    "no such token": ("/v1/completions", GREEDY | {"prompt": [10**6]}),
    "empty prompt": ("/v1/embeddings", {"model": EMBED, "input": [[]]}),
}


def named_alike(answer: Any) -> Any:
    """An answer without what each run makes anew: ids and moments."""
    if isinstance(answer, list):
        return [named_alike(item) for item in answer]
    if isinstance(answer, dict):
        anew = ("id", "created", "created_at", "completed_at")
        return {name: "anew" if name in anew else named_alike(value) for name, value in answer.items()}
    return answer


def of_vllm(stack: Stack, path: str, body: Json) -> httpx.Response:
    name = EMBED if body["model"] in (EMBED, ADAPTER) else TINY
    return httpx.post(stack.engines[name] + path, json=body, timeout=60, trust_env=False)


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_vllms_own(stack: Stack, http: httpx.Client, case: str) -> None:
    path, body = CASES[case]
    expected = of_vllm(stack, path, body)
    assert expected.status_code == 200, expected.text
    answer = http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    assert named_alike(answer.json()) == named_alike(expected.json())


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_vllms_own_in_openais_form(stack: Stack, http: httpx.Client, case: str) -> None:
    path, body = REFUSED[case]
    expected = of_vllm(stack, path, body)
    answer = http.post(path, json=body)
    assert answer.status_code == expected.status_code == 400
    error = answer.json()["error"]
    assert error["message"] == expected.json()["error"]["message"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] is None or not error["code"].isdecimal()
