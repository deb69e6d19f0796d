"""LangChain's standard tests of a chat model, on `ChatOpenAI`, in an environment that has them and nothing of ours.

The deployment is named by OPENAI_BASE_URL and OPENAI_API_KEY, as `ChatOpenAI` itself reads them.
"""

from typing import Any

from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestChatOpenAI(ChatModelIntegrationTests):  # type: ignore[misc]  # LangChain is not where mypy runs
    """Structured output as `ChatOpenAI` asks for it of itself: `response_format`."""

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        # By itself it asks for a stream's usage at OpenAI's own address only.
        return {"model": "scripted", "stream_usage": True}

    @property
    def model_override_value(self) -> str:
        return "scripted-too"

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    # Left at False, and so skipped: pictures, PDFs and sound, which the tests fetch from the Internet and a model of
    # text refuses; and how long a stream takes, which is compared with a recording.


class TestStructuredOutputByTools(TestChatOpenAI):
    """All of it once more, with structured output by a call of a tool."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}
