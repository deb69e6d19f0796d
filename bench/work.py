"""The requests that the benches send: chats of random English, the same for the same seed."""

import json
import random
import re
from collections.abc import Sequence
from pydoc_data.topics import topics
from typing import Final

from jobs.records import Json

CHAT: Final = "/v1/chat/completions"

WORDS: Final = re.findall(r"[A-Za-z]+", " ".join(topics[name] for name in sorted(topics)))
"""English that every Python carries."""


def chats(count: int, model: str, seed: int) -> list[Json]:
    """So many chats of 10 to 120 words that run for 16 to 96 tokens, whatever the model would rather say.

    No two share a beginning, so that requests of another seed find nothing in an engine's prefix cache.
    """
    chance = random.Random(seed)
    return [
        {
            "model": model,
            "messages": [{"role": "user", "content": " ".join(chance.choices(WORDS, k=chance.randint(10, 120)))}],
            "max_tokens": chance.randint(16, 96),
            "ignore_eos": True,
        }
        for _ in range(count)
    ]


def tokens(bodies: Sequence[Json]) -> int:
    """How many tokens these chats will produce."""
    return sum(body["max_tokens"] for body in bodies)


def encoded(bodies: Sequence[Json]) -> list[bytes]:
    """As they go over the wire."""
    return [json.dumps(body).encode() for body in bodies]
