"""What large files cost the API's process: memory that is stated, whatever the file's size."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from tests.processes import Process, deployed

MB: Final = 2**20
SIZE: Final = 200 * MB
GROWTH: Final = 50 * MB
BOUNDARY: Final = "part"


def memory(process: Process, what: str) -> int:
    """Bytes that are resident (VmRSS), or the most that ever were (VmHWM)."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    [line] = [line for line in status.splitlines() if line.startswith(f"{what}:")]
    return int(line.split()[1]) * 1024


async def upload() -> AsyncIterator[bytes]:
    """The form of a batch's input file, a megabyte at a time."""
    for name, value in (('name="purpose"', b"batch"), ('name="file"; filename="in.jsonl"', b"")):
        yield f"--{BOUNDARY}\r\nContent-Disposition: form-data; {name}\r\n\r\n".encode() + value
        yield b"\r\n" if value else b""
    line = b'{"custom_id": "a"}'.ljust(1023) + b"\n"
    for _ in range(SIZE // MB):
        yield line * 1024
    yield f"\r\n--{BOUNDARY}--\r\n".encode()


async def test_a_large_file_goes_in_and_out_in_little_memory(tmp_path: Path) -> None:
    form = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    async with deployed(tmp_path) as deployment, deployment.client() as client:
        api = await deployment.start_api()
        before = memory(api, "VmRSS")
        answer = await client.post("/v1/files", content=upload(), headers=form)
        assert (answer.status_code, answer.json().get("bytes")) == (200, SIZE), answer.text
        assert memory(api, "VmHWM") - before <= GROWTH, "while it went in"
        size = 0
        async with client.stream("GET", f"/v1/files/{answer.json()['id']}/content") as content:
            async for chunk in content.aiter_raw():
                size += len(chunk)
        assert size == SIZE
        assert memory(api, "VmHWM") - before <= GROWTH, "while it came out"
