"""The models that real vLLM serves in the benches, and what an engine of vLLM says of itself."""

import asyncio
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.records import Json, Registration
from longhaul import tiny_model

NAME: Final = "bench"
_SEQUENCES: Final = 128
"""vLLM's own default for a server on a CPU. Its batch runner has another, so both are told."""


@dataclass(frozen=True, slots=True)
class Served:
    """A model and how vLLM is told to serve it: the same words on both sides of a comparison."""

    arguments: list[str]
    environment: dict[str, str] = field(default_factory=lambda: {"HF_HUB_OFFLINE": "1"})


def tiny(folder: Path) -> Served:
    """The tiny model of `longhaul demo`, with the arguments that it gets there."""
    return Served(
        ["--model", str(tiny_model.build(folder / "tiny")), "--enforce-eager", *_both(_SEQUENCES, 2048)],
        {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2"},
    )


def narrow(folder: Path) -> Served:
    """The tiny model with room for 65,536 tokens in its KV cache."""
    model = str(tiny_model.build(folder / "tiny"))
    cache = ["--num-gpu-blocks-override", "512", "--block-size", "128"]
    return Served(["--model", model, "--enforce-eager", *_both(32, 2048), *cache], tiny(folder).environment)


def real_size(folder: Path) -> Served:
    """A Llama of 8 billion random weights that vLLM makes up as it loads; its vocabulary is the tiny model's."""
    large = folder / "large"
    shutil.copytree(tiny_model.build(folder / "tiny"), large, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((large / "config.json").read_text())
    config |= {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "dtype": "bfloat16",
    }
    (large / "config.json").write_text(json.dumps(config))
    return Served(["--model", str(large), "--load-format", "dummy", *_both(256, 8192)])


def _both(sequences: int, batched_tokens: int) -> list[str]:
    limits = ["--max-num-seqs", str(sequences), "--max-num-batched-tokens", str(batched_tokens)]
    return ["--served-model-name", NAME, *limits]


async def has_gpu() -> bool:
    """Whether torch sees one; asked in a process of its own, which torch may hold memory in."""
    asking = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", asking, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait() == 0


async def schemas() -> dict[str, Json]:
    """The request schemas of vLLM's own app, as its worker registers them, without loading a model."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bare", "schemas"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    printed, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("vLLM's schemas could not be read")
    found: dict[str, Json] = json.loads(printed.splitlines()[-1])
    return found


def registration(name: str, endpoints: dict[str, Json]) -> Registration:
    """What a worker with vLLM says of itself."""
    return Registration(name, (), (), endpoints, context_length=2048, slots=256)
