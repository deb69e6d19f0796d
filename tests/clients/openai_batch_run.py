"""Runs in an environment that has `openai-batch` and nothing of ours: chats and texts to embed, through its `Batch`.

`openai_batch_run.py BASE_URL KEY MODEL FOLDER` prints one JSON object for each batch.
"""

import json
import sys
from pathlib import Path
from typing import Any

from openai_batch import Batch
from openai_batch.batch import BatchType
from openai_batch.providers import Provider


def main() -> None:
    base_url, key, model, folder = sys.argv[1:]
    provider = Provider(name="longhaul", display_name="Longhaul", base_url=base_url, api_key=key)
    chats = [{"messages": [{"role": "user", "content": f"job {n}"}], "max_tokens": 8} for n in range(50)]
    texts = [{"input": f"text {n}"} for n in range(20)]
    for kind, bodies in ((BatchType.CHAT_COMPLETION, chats), (BatchType.EMBEDDING, texts)):
        print(json.dumps(run(provider, kind, [{"model": model, **body} for body in bodies], Path(folder))))


def run(provider: Any, kind: Any, bodies: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    """Write the requests to a file, then submit the file, as its own command does: it cannot do both with one."""
    paths = [str(folder / f"{kind.value}.{end}.jsonl") for end in ("in", "out", "errors")]
    with Batch(paths[0], provider=provider) as writing:
        for body in bodies:
            writing.add_to_batch(**body)
    with Batch(*paths, provider=provider) as batch:
        batch.batch_type = kind
        result, output, _ = batch.submit_wait_download(interval=1)
    lines = Path(output).read_text().strip().split("\n")  # answers hold other ends of lines
    return {"status": result.status, "lines": len(lines), "first": json.loads(lines[0])}


if __name__ == "__main__":
    main()
