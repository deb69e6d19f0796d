"""A model that sees pictures in `data:` URLs and has a LoRA adapter for its chats, on a worker of its own."""

import asyncio
import base64
import io
import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import openai
import pytest
import pytest_asyncio
from openai import OpenAI

from tests.end_to_end import models
from tests.end_to_end.conftest import Stack

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

SEES: Final = "org/sees"
ADAPTED: Final = "org/sees-lora"


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[None]:
    folder = tmp_path_factory.mktemp("sees")
    model = await asyncio.to_thread(models.seeing, stack.model, folder / "model")
    lora = await asyncio.to_thread(models.adapter, stack.model, folder / "lora", "model.text_model.layers")
    served = ("--", "--model", str(model), "--served-model-name", SEES, "--enforce-eager", "--max-num-seqs", "4")
    adapted = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{ADAPTED}={lora}")
    process, _ = await stack.deployment.start_worker("sees", *served, *adapted, LONGHAUL_ENGINE="vllm")
    yield
    process.send(signal.SIGTERM)
    await process.ended(60)


def picture(colour: str) -> dict[str, Any]:
    """A part of a message: a picture of one colour."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (models.PIXELS, models.PIXELS), colour).save(file, "PNG")
    url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}


def said(sdk: OpenAI, *parts: dict[str, Any], model: str = SEES) -> tuple[str, list[float], int]:
    """Its greedy answer to these parts, with the tokens' probabilities, and how many tokens the question had."""
    content: Any = [{"type": "text", "text": "what is this?"}, *parts]
    answer = sdk.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": content}],
        max_tokens=8,
        temperature=0,
        logprobs=True,
        extra_body={"ignore_eos": True},
    )
    [choice] = answer.choices
    assert answer.model == model and answer.usage is not None
    assert choice.logprobs is not None and choice.logprobs.content is not None
    probabilities = [token.logprob for token in choice.logprobs.content]
    return choice.message.content or "", probabilities, answer.usage.prompt_tokens


def test_a_picture_in_a_data_url_is_seen(sdk: OpenAI) -> None:
    red, again, blue, nothing = (
        said(sdk, *parts) for parts in ([picture("red")], [picture("red")], [picture("blue")], [])
    )
    assert red == again
    assert red[1] != blue[1]
    assert red[2] == blue[2] >= nothing[2] + 7


def test_a_picture_that_is_none_is_vllms_own_refusal(sdk: OpenAI) -> None:
    broken = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    with pytest.raises(openai.BadRequestError):
        said(sdk, broken)


def test_an_adapter_is_a_model_that_chats_in_its_own_way(sdk: OpenAI) -> None:
    listed = {model.id: model.to_dict() for model in sdk.models.list()}
    assert (listed[ADAPTED]["root"], listed[ADAPTED]["parent"]) == (ADAPTED, SEES)
    assert said(sdk, model=ADAPTED)[1] != said(sdk, model=SEES)[1]


def test_an_adapter_sees_too(sdk: OpenAI) -> None:
    assert said(sdk, picture("red"), model=ADAPTED)[1] != said(sdk, picture("blue"), model=ADAPTED)[1]
