"""Models and adapters that only tests need, made of the tiny one."""

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


def adapter(model: Path, folder: Path) -> Path:
    """A LoRA adapter of random weights for a model, in `folder`, as PEFT lays it out; it changes every answer."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    hidden, rank = config["hidden_size"], 8
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(hidden, rank, generator=generator)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    form = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(form | {"base_model_name_or_path": str(model)}))
    return folder
