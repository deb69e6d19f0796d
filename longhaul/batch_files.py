"""Files of requests, cut into batches, and files of results, joined again: line by line, whatever their size."""

import hashlib
import heapq
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import httpx

from jobs import payload
from jobs.records import Json
from longhaul.client import Refused, Unreachable

_CHUNK: Final = 2**20
_LONGEST_LINE: Final = 2**26
_PATIENCE_SECONDS: Final = 600


class BadFile(Exception):
    """The input cannot be read as a file of requests; the message says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes `start` to `end` of an input file, which are one batch. `digest` is their SHA-256, `requests` counts
    the lines that are not blank, and `first_line` is the number of the first, from 1, in the whole file."""

    path: Path
    name: str
    start: int
    end: int
    first_line: int
    requests: int
    digest: str

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


def is_url(name: str) -> bool:
    """Whether an input or output is on the web."""
    return name.startswith(("http://", "https://"))


@contextmanager
def local(source: str) -> Iterator[Path]:
    """The input as a file on this machine; `-`, standard input, and http(s) URLs are copied to a temporary one.

    Raises:
        BadFile: there is no such file.
        Unreachable, Refused: the web has none.
    """
    if source != "-" and not is_url(source):
        if not Path(source).is_file():
            raise BadFile(f"There is no file {source!r}.")
        yield Path(source)
        return
    with tempfile.NamedTemporaryFile(prefix="longhaul-", suffix=".jsonl") as copy:
        if source == "-":
            shutil.copyfileobj(sys.stdin.buffer, copy, _CHUNK)
        else:
            with _web("GET", source) as response:
                copy.writelines(response.iter_bytes())
        copy.flush()
        yield Path(copy.name)


@contextmanager
def _web(method: str, url: str, **request: Any) -> Iterator[httpx.Response]:
    try:
        with httpx.stream(method, url, follow_redirects=True, timeout=_PATIENCE_SECONDS, **request) as response:
            if not response.is_success:
                raise Refused(response.status_code, f"{url}: HTTP {response.status_code}")
            yield response
    except httpx.TransportError as error:
        raise Unreachable(f"No answer from {url}: {error or type(error).__name__}") from error


def first_url(path: Path) -> str:
    """The `url` of the first line that is a request.

    Raises:
        BadFile: there is none.
    """
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
            try:
                request = payload.decode(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(request, dict) and isinstance(request.get("url"), str):
                url: str = request["url"]
                return url
    raise BadFile("The input file has no request: no line is a JSON object with a 'url'.")


def cut(path: Path, name: str, *, most_lines: int, most_bytes: int) -> list[Part]:
    """The parts of a file, in order, of at most so many requests and bytes each; `name` is what they are called after.

    Raises:
        BadFile: a single line is over the limit.
    """
    stretches, current = [], _Stretch(0, 1)
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(most_bytes + 1), b""), 1):
            if len(line) > most_bytes:
                raise BadFile(f"Line {number} is longer than {most_bytes} bytes.")
            full = current.requests == most_lines and line.strip()
            if full or current.end + len(line) - current.start > most_bytes:
                stretches.append(current)
                current = _Stretch(current.end, number)
            current.add(line)
    stretches.append(current)
    with_requests = [stretch for stretch in stretches if stretch.requests]
    stem, suffix = os.path.splitext(name)
    names = [name] if len(with_requests) == 1 else [f"{stem}.{number}{suffix}" for number in range(1, 10**6)]
    return [stretch.part(path, called) for stretch, called in zip(with_requests, names, strict=False)]


class _Stretch:
    """A part that still grows."""

    def __init__(self, start: int, first_line: int) -> None:
        self.start = self.end = start
        self.first_line = first_line
        self.requests = 0
        self._digest = hashlib.sha256()

    def add(self, line: bytes) -> None:
        self.end += len(line)
        self.requests += bool(line.strip())
        self._digest.update(line)

    def part(self, path: Path, name: str) -> Part:
        return Part(path, name, self.start, self.end, self.first_line, self.requests, self._digest.hexdigest())


class Section(io.RawIOBase):
    """A part as a file of its own, for reading; `told` hears how many of its bytes were read."""

    def __init__(self, part: Part, told: Callable[[int], None]) -> None:
        self._file = part.path.open("rb")
        self._start, self._size, self._place, self._told = part.start, part.size, 0, told
        self.seek(0)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        chunk = self._file.read(min(len(buffer), self._size - self._place))
        buffer[: len(chunk)] = chunk
        self._place += len(chunk)
        self._told(self._place)
        return len(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        self._place = min(max(base + offset, 0), self._size)
        self._file.seek(self._start + self._place)
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def whole(target: str, keep_empty: bool = True) -> Iterator[BinaryIO]:
    """A file to write to. `target`, a path, `-` or an http(s) URL to PUT to, gets it when the block ends well, and
    nothing before. One that stayed empty is not written unless `keep_empty`: what was there before goes.

    Raises:
        Unreachable, Refused: the web does not take it.
    """
    path = Path(target).resolve()
    if target != "-" and not is_url(target) and (path.is_file() or not path.exists()):
        with _beside(path, keep_empty) as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        yield file
        if not file.tell() and not keep_empty:
            return
        file.seek(0)
        if is_url(target):
            size = str(os.fstat(file.fileno()).st_size)
            with _web("PUT", target, content=file, headers={"Content-Length": size}):
                pass
        elif target == "-":
            shutil.copyfileobj(file, sys.stdout.buffer, _CHUNK)
            sys.stdout.buffer.flush()
        else:  # a pipe or a device, which a rename would replace
            with path.open("wb") as device:
                shutil.copyfileobj(file, device, _CHUNK)


@contextmanager
def _beside(path: Path, keep_empty: bool) -> Iterator[BinaryIO]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("wb") as file:
            yield file
            written = file.tell()
        if written or keep_empty:
            unfinished.replace(path)
        else:
            path.unlink(missing_ok=True)
    finally:
        unfinished.unlink(missing_ok=True)


def merged_as_vllm(output: BinaryIO, errors: BinaryIO) -> Iterator[bytes]:
    """The result files of one batch as one, in the order of the input and in the format of vLLM's `run-batch`.

    The ids of the lines of one batch sort by their place in the input.
    """
    lines = (map(payload.decode, file) for file in (output, errors))
    return (payload.write(_as_vllm(line)) + b"\n" for line in heapq.merge(*lines, key=lambda line: line["id"]))


def _as_vllm(line: Json) -> Json:
    """A failed line has its response's body under `error`; one without a response has a text there."""
    number = line["id"].removeprefix("batch_req_")
    response, error = line["response"], line["error"]
    if response is None:
        said: Any = (error or {}).get("message")
        response = {"status_code": 400, "request_id": f"vllm-batch-{number}", "body": None}
    else:
        request = f"vllm-batch-{response['request_id'].removeprefix('req_')}"
        good = response["status_code"] < 400
        said = None if good else response["body"]
        response = {
            "status_code": response["status_code"],
            "request_id": request,
            "body": response["body"] if good else None,
        }
    return {"id": f"vllm-{number}", "custom_id": line["custom_id"], "response": response, "error": said}
