"""Models and adapters that only tests need, made of the tiny one."""

import json
import shutil
from pathlib import Path
from typing import Final

PIXELS: Final = 56


def without_chat_template(model: Path, folder: Path) -> Path:
    """A copy of a model, in `folder`, that does not say how a chat becomes a prompt."""
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("chat_template*"))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def seeing(model: Path, folder: Path) -> Path:
    """A model, in `folder`, with the form and the tokens of the tiny one, that sees each picture as 16 patches, which
    become 4 tokens between 3 that frame them. It is an Idefics3: those read pictures without torchvision."""
    import torch
    import transformers as hub

    tokenizer = hub.AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>"], True)
    edge, patch = PIXELS, PIXELS // 4
    eyes = {"image_size": edge, "patch_size": patch, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = hub.Idefics3Config(
        vision_config={"hidden_size": 64, "intermediate_size": 128, **eyes},
        text_config=hub.LlamaConfig.from_pretrained(model, vocab_size=len(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        hub.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    size = {"longest_edge": edge}
    images = hub.Idefics3ImageProcessorPil(size=size, max_image_size=size, do_image_splitting=False)
    hub.Idefics3Processor(images, tokenizer, image_seq_len=4).save_pretrained(folder)
    return folder


def adapter(model: Path, folder: Path, layers: str = "model.layers") -> Path:
    """A LoRA adapter of random weights for a model, in `folder`, as PEFT lays it out; it changes every answer.

    `layers` is where in the model the layers of text are.
    """
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())
    hidden, rank = config["hidden_size"], 8
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.{layers}.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = torch.randn(rank, hidden, generator=generator)
        weights[f"{name}.lora_B.weight"] = torch.randn(hidden, rank, generator=generator)
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    form = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(form | {"base_model_name_or_path": str(model)}))
    return folder
