"""Signatures, judged by those who verify them: OpenAI's SDK and the library of Standard Webhooks' authors."""

import json
import time

import openai
import pytest
from openai import OpenAI
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from jobs import signing

BODY = json.dumps(
    {"id": "evt_1", "object": "event", "created_at": 1, "type": "batch.completed", "data": {"id": "batch_1"}}
).encode()


def headers(*secrets: str, at: float | None = None) -> dict[str, str]:
    timestamp = int(time.time() if at is None else at)
    return {
        "webhook-id": "wh_1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signing.sign("wh_1", timestamp, BODY, secrets),
    }


@pytest.mark.parametrize("which", [0, 1])
def test_each_of_two_secrets_verifies(which: int) -> None:
    secrets = [signing.new_secret(), signing.new_secret()]
    signed = headers(*secrets)
    assert Webhook(secrets[which]).verify(BODY.decode(), signed)["id"] == "evt_1"
    event = OpenAI(api_key="none").webhooks.unwrap(BODY, signed, secret=secrets[which])
    assert event.type == "batch.completed"


def test_another_secret_does_not() -> None:
    signed = headers(signing.new_secret())
    with pytest.raises(WebhookVerificationError):
        Webhook(signing.new_secret()).verify(BODY.decode(), signed)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        OpenAI(api_key="none").webhooks.unwrap(BODY, signed, secret=signing.new_secret())


def test_a_secret_without_the_prefix_is_taken_as_it_stands() -> None:
    event = OpenAI(api_key="none").webhooks.unwrap(BODY, headers("plain text"), secret="plain text")
    assert event.id == "evt_1"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64", "whsec_YQ"])
def test_what_cannot_sign_is_refused(secret: str) -> None:
    with pytest.raises(ValueError):
        signing.key_of(secret)


def test_no_two_new_secrets_are_alike() -> None:
    assert signing.new_secret() != signing.new_secret()
    assert len(signing.key_of(signing.new_secret())) == 32
