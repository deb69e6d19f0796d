"""The model built on the spot: whole, small, and understood by what loads it."""

import json
from pathlib import Path

import pytest

from longhaul.tiny_model import build

pytestmark = [pytest.mark.vllm, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "tiny")


def test_it_is_a_llama_of_three_million_weights(folder: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert sum(weights.numel() for weights in model.parameters()) == 3_410_176
    assert json.loads((folder / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_its_tokenizer_knows_english_and_loses_no_byte(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    english = "The function returns the value of the expression"
    ids = tokenizer(english)["input_ids"]
    assert len(ids) < len(english) / 3
    for text in (english, "Füße 漢字 🚚\x00\n"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_chat_is_marked_by_role_and_ends_where_the_assistant_begins(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "<|begin|><|system|>Be kind.<|user|>Hello<|assistant|>"


def test_building_again_changes_nothing_and_leaves_nothing_beside(folder: Path) -> None:
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert build(folder) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_two_builds_are_the_same_model(folder: Path, tmp_path: Path) -> None:
    again = build(tmp_path / "again")
    for name in ("model.safetensors", "tokenizer.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
