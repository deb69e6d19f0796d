"""Models that only tests need, made of the tiny one."""

import json
import shutil
from pathlib import Path


def without_chat_template(model: Path, folder: Path) -> Path:
    """A copy of a model, in `folder`, that does not say how a chat becomes a prompt."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("chat_template*"))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder
