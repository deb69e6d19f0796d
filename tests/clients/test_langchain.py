"""`ChatOpenAI` passes LangChain's standard tests of a chat model. `make test-clients` makes its environment."""

import asyncio
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.processes import Deployment

TESTS = Path(__file__).with_name("langchain_chat.py")
SETTINGS = Path(__file__).with_name("langchain.ini")
SKIPPED = {
    *("test_image_inputs", "test_image_tool_message", "test_pdf_inputs", "test_pdf_tool_message", "test_audio_inputs"),
    "test_stream_time",
}


@pytest.mark.parametrize("group", ["TestChatOpenAI", "TestStructuredOutputByTools"])
async def test_its_standard_tests_pass(
    deployment: Deployment, python: str, environment: dict[str, str], tmp_path: Path, group: str
) -> None:
    report = tmp_path / "report.xml"
    process = await asyncio.create_subprocess_exec(
        *(python, "-m", "pytest", "-q", "-c", SETTINGS, f"--junit-xml={report}", f"{TESTS}::{group}"),
        env=environment | {"OPENAI_BASE_URL": f"{deployment.base_url}/v1", "OPENAI_API_KEY": deployment.key},
        cwd=tmp_path,
    )
    assert await process.wait() == 0
    ran = {case.attrib["name"]: case.find("skipped") is None for case in ElementTree.parse(report).iter("testcase")}
    assert len(ran) > 40
    assert {name for name, whole in ran.items() if not whole} == SKIPPED
