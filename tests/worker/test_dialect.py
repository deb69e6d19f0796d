"""Requests as the engine gets them: our fields in front, everything else byte for byte."""

import json
from dataclasses import replace
from uuid import UUID

import pytest

from jobs.records import Flags, Json, Registration, Tier
from tests.worker.test_assemble import JOB
from worker.dialect import Dialect

ID = UUID("01900000-0000-7000-8000-000000000001")
BOTH: Json = {"properties": {"request_id": {}, "priority": {}}}


def dialect(schema: Json, endpoint: str = "/v1/chat/completions") -> Dialect:
    return Dialect(Registration("m", (), (), {endpoint: schema}, None, 1))


def translated(schema: Json, body: bytes, tier: Tier = Tier.BATCH) -> bytes:
    return dialect(schema).translate(replace(JOB, id=ID, tier=tier, body=body))[0]


def test_request_id_and_priority_go_in_front() -> None:
    body = b' {"model": "m",\n "n": 1.0}'
    assert translated(BOTH, body) == b' {"request_id":"%s","priority":3,"model": "m",\n "n": 1.0}' % ID.hex.encode()


def test_only_fields_that_the_schema_has_are_set() -> None:
    assert json.loads(translated({"properties": {"priority": {}}}, b'{"n":1}')) == {"priority": 3, "n": 1}
    assert translated({"properties": {}}, b'{"n":1}') == b'{"n":1}'


def test_a_choice_of_schemas_has_a_field_when_all_have() -> None:
    both: Json = {"properties": {"priority": {}, "request_id": {}}}
    one: Json = {"properties": {"priority": {}}}
    schema = {"anyOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}], "$defs": {"A": both, "B": one}}
    assert json.loads(translated(schema, b'{"n":1}')) == {"priority": 3, "n": 1}


@pytest.mark.parametrize("body", [b"{}", b"{ \n}"])
def test_an_empty_object_stays_valid_json(body: bytes) -> None:
    assert json.loads(translated(BOTH, body)) == {"request_id": ID.hex, "priority": 3}


@pytest.mark.parametrize("body", [b"[]", b'[{"a":1}]', b'"{"', b""])
def test_a_body_that_is_no_object_is_left_to_the_engine(body: bytes) -> None:
    assert translated(BOTH, body) == body


def test_the_headers_name_request_and_tier_too() -> None:
    _, headers = dialect({}, "/v1/messages").translate(replace(JOB, id=ID, tier=Tier.FLEX, endpoint="/v1/messages"))
    assert headers == ((b"x-request-id", ID.hex.encode()), (b"x-vllm-priority", b"2"))


def test_a_response_is_named_in_openais_way() -> None:
    job = replace(JOB, id=ID, endpoint="/v1/responses", body=b'{"input":"hi"}')
    body, _ = dialect(BOTH, "/v1/responses").translate(job)
    assert json.loads(body)["request_id"] == f"resp_{ID.hex}"


@pytest.mark.parametrize("endpoint", ["/v1/responses", "/v1/responses/input_tokens"])
@pytest.mark.parametrize("said", [{}, {"store": True, "background": True, "previous_response_id": "resp_1"}])
def test_an_engine_stores_no_response_and_runs_none_in_its_background(endpoint: str, said: Json) -> None:
    job = replace(JOB, id=ID, endpoint=endpoint, body=json.dumps({"input": "hi", **said}).encode())
    body = json.loads(dialect({}, endpoint).translate(job)[0])
    assert body == {"input": "hi", "store": False, "background": False, "previous_response_id": None}


def test_what_is_appended_to_nothing_is_valid_json() -> None:
    job = replace(JOB, endpoint="/v1/responses", body=b"{ }")
    assert json.loads(dialect({}, "/v1/responses").translate(job)[0])["store"] is False


@pytest.mark.parametrize(("asked", "given"), [("fast", "auto"), ("ultrafast", "auto"), ("flex", "flex")])
def test_a_service_tier_that_the_engine_does_not_know_is_replaced(asked: str, given: str) -> None:
    body = json.dumps({"service_tier": asked, "input": "hi"}).encode() + b" \n"
    job = replace(JOB, endpoint="/v1/responses", body=body, service_tier=asked)
    assert json.loads(dialect(BOTH, "/v1/responses").translate(job)[0])["service_tier"] == given


def test_a_stream_is_asked_for_its_usage() -> None:
    schema: Json = {"properties": {"stream_options": {}}}
    streaming = replace(JOB, id=ID, flags=Flags.STREAMS, body=b'{"stream":true,"stream_options":{"other":1}}')
    body, _ = dialect(schema).translate(streaming)
    assert json.loads(body)["stream_options"] == {"include_usage": True}
    assert dialect({}).translate(streaming)[0] == streaming.body
    assert dialect(schema).translate(replace(streaming, flags=Flags.NONE))[0] == streaming.body
    asking = replace(streaming, body=b'{"stream":true,"stream_options":{"include_usage":true}}')
    assert dialect(schema).translate(asking)[0] == asking.body
