"""Jobs over HTTP on real vLLM: submit and come back later, in every way that is offered."""

import time
from typing import Any, Final

import httpx
import pytest

from jobs.records import Json
from tests.end_to_end.conftest import EMBED, TINY

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

CHAT: Final = "/v1/chat/completions"
BODY: Final[Json] = {"model": TINY, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
LONG: Final[Json] = BODY | {"max_tokens": 1900, "n": 8, "ignore_eos": True}
"""Takes seconds, on a fast machine too."""


def waited(http: httpx.Client, job: str) -> Any:
    """A job's object, once it has ended."""
    return http.get(f"/v1/jobs/{job}", params={"wait": 50}).json()


def test_a_request_that_need_not_wait_is_a_job(http: httpx.Client) -> None:
    asked = BODY | {"metadata": {"run": "night"}, "ignore_eos": True}
    accepted = http.post(CHAT, json=asked, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    job = accepted.json()
    assert accepted.headers["location"] == f"/v1/jobs/{job['id']}"
    assert accepted.headers["preference-applied"] == "respond-async"
    assert accepted.headers["x-queue-position"] == str(job["queue"]["position"])
    done = waited(http, job["id"])
    assert (done["status"], done["attempts"], done["metadata"]) == ("completed", 1, {"run": "night"})
    assert done["started_at"] >= done["created_at"]
    assert done["usage"]["output_tokens"] == 4
    response = done["response"]
    assert (response["status_code"], response["request_id"]) == (200, job["id"].replace("job_", "req_"))
    assert response["body"]["id"] == job["id"].replace("job_", "chatcmpl-")
    found = http.get("/v1/jobs", params={"metadata[run]": "night", "status": "completed"}).json()["data"]
    assert [(one["id"], one["response"]["status_code"]) for one in found] == [(job["id"], 200)]


def test_a_wait_that_is_long_enough_gets_the_response(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=BODY, headers={"Prefer": "respond-async, wait=50"})
    assert (answer.status_code, answer.json()["object"]) == (200, "chat.completion")
    assert answer.headers["preference-applied"] == "respond-async, wait=50"


def test_a_wait_that_is_too_short_gets_the_job_and_cancels_nothing(http: httpx.Client) -> None:
    answer = http.post(CHAT, json=LONG, headers={"Prefer": "respond-async, wait=1"})
    assert (answer.status_code, answer.json()["object"]) == (202, "job")
    done = waited(http, answer.json()["id"])
    assert (done["status"], done["usage"]["output_tokens"]) == ("completed", 8 * 1900)


def test_an_array_of_jobs_for_any_endpoint(http: httpx.Client) -> None:
    items = [
        {"endpoint": CHAT, "body": BODY, "service_tier": "flex"},
        {"endpoint": "/v1/completions", "body": {"model": TINY, "prompt": "once", "max_tokens": 4}},
        {"endpoint": "/v1/responses", "body": {"model": TINY, "input": "hello", "max_output_tokens": 4}},
        {"endpoint": "/v1/messages", "body": BODY},
        {"endpoint": "/tokenize", "body": {"model": TINY, "prompt": "hello"}},
        {"endpoint": "/v1/embeddings", "body": {"model": EMBED, "input": "hello"}},
        {"endpoint": "/v1/score", "body": {"model": EMBED, "text_1": "hello", "text_2": "there"}},
        {"endpoint": "/v1/rerank", "body": {"model": EMBED, "query": "hello", "documents": ["hello", "there"]}},
    ]
    accepted = http.post("/v1/jobs", json=items)
    assert accepted.status_code == 202
    jobs = accepted.json()["data"]
    assert [job["endpoint"] for job in jobs] == [item["endpoint"] for item in items]
    done = [waited(http, job["id"]) for job in jobs]
    assert [(job["endpoint"], job["status"]) for job in done] == [(job["endpoint"], "completed") for job in jobs]
    assert done[0]["service_tier"] == "flex"


def test_one_bad_item_refuses_an_array(http: httpx.Client) -> None:
    items = [{"endpoint": CHAT, "body": BODY}, {"endpoint": CHAT, "body": BODY | {"temperature": -1}}]
    refused = http.post("/v1/jobs", json=items)
    assert refused.status_code == 400
    assert [(error["index"], error["param"]) for error in refused.json()["errors"]] == [(1, "1.body.temperature")]


def test_a_job_that_vllm_refuses_keeps_its_words(http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json={"endpoint": CHAT, "body": BODY | {"max_tokens": 5000}}).json()
    done = waited(http, job["id"])
    assert (done["status"], done["response"]["status_code"]) == ("failed", 400)
    assert "max_model_len=2048" in done["response"]["body"]["error"]["message"]
    assert done["error"]["code"]


def test_a_running_job_is_cancelled_and_runs_again_as_another(http: httpx.Client) -> None:
    job = http.post("/v1/jobs", json={"endpoint": CHAT, "body": LONG}).json()["id"]
    while http.get(f"/v1/jobs/{job}").json()["status"] == "queued":
        time.sleep(0.05)
    assert http.post(f"/v1/jobs/{job}/retry").status_code == 409
    cancelled = http.post(f"/v1/jobs/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    again = http.post(f"/v1/jobs/{job}/retry")
    assert again.status_code == 202
    assert again.json()["retry_of"] == job
    done = waited(http, again.json()["id"])
    assert (done["status"], done["retry_of"]) == ("completed", job)
    assert waited(http, job)["response"] is None


def test_the_same_key_is_the_same_job(http: httpx.Client) -> None:
    headers = {"Idempotency-Key": "one and the same", "Prefer": "respond-async"}
    first, second = (http.post(CHAT, json=BODY, headers=headers).json()["id"] for _ in range(2))
    assert first == second
    assert http.post(CHAT, json=LONG, headers=headers).status_code == 422


def test_a_deleted_job_is_gone(http: httpx.Client) -> None:
    job = http.post(CHAT, json=BODY, headers={"Prefer": "respond-async"}).json()["id"]
    waited(http, job)
    assert http.delete(f"/v1/jobs/{job}").json() == {"id": job, "object": "job", "deleted": True}
    assert http.get(f"/v1/jobs/{job}").status_code == 404
