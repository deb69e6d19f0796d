"""Input files cut into parts, results written whole, and vLLM's format."""

import hashlib
import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jobs.records import Json
from longhaul.batch_files import BadFile, Section, cut, first_url, local, merged_as_vllm, whole
from longhaul.client import Refused, Unreachable


class Web(BaseHTTPRequestHandler):
    """A server of files by path: GET gives back what was PUT."""

    files: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.files.get(self.path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def do_PUT(self) -> None:
        self.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def web() -> Iterator[tuple[str, dict[str, bytes]]]:
    """The address of a web server, and its files by path."""
    files: dict[str, bytes] = {}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Web,), {"files": files})) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", files
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def test_a_small_file_is_one_part_that_keeps_its_name(path: Path) -> None:
    path.write_bytes(b"one\n\ntwo\nthree")
    [part] = cut(path, "in.jsonl", most_lines=3, most_bytes=100)
    assert (part.name, part.start, part.end, part.first_line, part.requests) == ("in.jsonl", 0, 14, 1, 3)
    assert part.digest == hashlib.sha256(b"one\n\ntwo\nthree").hexdigest()


@pytest.mark.parametrize(("most_lines", "most_bytes"), [(2, 1000), (1000, 12), (1, 1000), (1000, 7)])
def test_parts_are_the_file_in_order_and_keep_the_limits(path: Path, most_lines: int, most_bytes: int) -> None:
    content = b"".join(b"line %d\n" % number for number in range(5)).replace(b"line 3\n", b"\n  \nline 3\n")
    path.write_bytes(content.replace(b"line ", b"l"))
    parts = cut(path, "in.jsonl", most_lines=most_lines, most_bytes=most_bytes)
    pieces = [Section(part, lambda read: None).read() for part in parts]
    assert b"".join(pieces) == path.read_bytes()
    assert [part.name for part in parts] == [f"in.{number}.jsonl" for number in range(1, len(parts) + 1)]
    for part, piece in zip(parts, pieces, strict=True):
        lines = piece.splitlines(keepends=True)
        assert part.requests == sum(bool(line.strip()) for line in lines) <= most_lines
        assert len(piece) == part.size <= most_bytes
        assert path.read_bytes().splitlines(keepends=True)[part.first_line - 1] == lines[0]


def test_a_part_without_requests_is_none(path: Path) -> None:
    path.write_bytes(b"one\n" + b"\n" * 40)
    assert [part.requests for part in cut(path, "in", most_lines=5, most_bytes=10)] == [1]
    path.write_bytes(b"")
    assert cut(path, "in", most_lines=5, most_bytes=10) == []


def test_a_line_over_the_limit_is_named(path: Path) -> None:
    path.write_bytes(b"one\n" + b"x" * 50 + b"\n")
    with pytest.raises(BadFile, match="Line 2 is longer than 10 bytes"):
        cut(path, "in", most_lines=5, most_bytes=10)


def test_a_section_reads_like_a_file_of_its_own(path: Path) -> None:
    path.write_bytes(b"aaaa\nbbbb\ncccc\n")
    told: list[int] = []
    part = cut(path, "in", most_lines=1, most_bytes=100)[1]
    with Section(part, told.append) as section:
        assert section.seek(0, os.SEEK_END) == 5
        assert section.seek(-2, os.SEEK_CUR) == 3
        assert section.read(100) == b"b\n"
        section.seek(0)
        assert [section.read(3), section.read(3), section.read(3)] == [b"bbb", b"b\n", b""]
    assert told[-2:] == [5, 5]


def test_the_endpoint_is_the_first_requests(path: Path) -> None:
    path.write_bytes(b'\nnot json\n[]\n{"url": "/v1/embeddings"}\n{"url": "/v1/completions"}\n')
    assert first_url(path) == "/v1/embeddings"
    path.write_bytes(b'\n{"url": 7}\n')
    with pytest.raises(BadFile, match="no request"):
        first_url(path)


def test_an_input_may_be_on_the_web(web: tuple[str, dict[str, bytes]]) -> None:
    address, files = web
    files["/in.jsonl"] = b"line\n" * 1000
    with local(f"{address}/in.jsonl") as copy:
        assert copy.read_bytes() == files["/in.jsonl"]
    assert not copy.exists()
    with pytest.raises(Refused, match="HTTP 404"), local(f"{address}/other"):
        pass
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9"), local("http://127.0.0.1:9/in"):
        pass


def test_an_input_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no file"), local(str(tmp_path / "none")):
        pass


def test_an_output_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "out.jsonl"
    target.write_bytes(b"before")
    with pytest.raises(RuntimeError), whole(str(target)) as file:
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"before"
    with whole(str(target)) as file:
        file.write(b"after")
        assert target.read_bytes() == b"before"
    assert target.read_bytes() == b"after"
    assert os.listdir(tmp_path) == ["out.jsonl"]


def test_an_empty_output_is_a_file_and_an_empty_file_of_errors_none(tmp_path: Path) -> None:
    output, errors = tmp_path / "out", tmp_path / "errors"
    errors.write_bytes(b"of an earlier run")
    with whole(str(output)), whole(str(errors), keep_empty=False):
        pass
    assert output.read_bytes() == b""
    assert not errors.exists()


def test_an_output_behind_a_link_and_a_device_stay_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with whole(str(tmp_path / "link")) as file:
        file.write(b"x")
    assert (tmp_path / "target").read_bytes() == b"x"
    assert (tmp_path / "link").is_symlink()
    with whole("/dev/null") as file:
        file.write(b"x")
    assert Path("/dev/null").is_char_device()


def test_an_output_may_be_put_on_the_web(web: tuple[str, dict[str, bytes]]) -> None:
    address, files = web
    with whole(f"{address}/out.jsonl") as file:
        file.write(b"results")
    assert files == {"/out.jsonl": b"results"}
    with whole(f"{address}/errors.jsonl", keep_empty=False):
        pass
    assert files == {"/out.jsonl": b"results"}


def result(line: int, response: Json | None, error: Json | None = None) -> bytes:
    row = {"id": f"batch_req_ab{line:08x}", "custom_id": str(line), "response": response, "error": error}
    return json.dumps(row).encode() + b"\n"


def test_vllms_format_is_one_file_in_the_order_of_the_input() -> None:
    good = [result(line, {"status_code": 200, "request_id": "req_1", "body": {"n": line}}) for line in (1, 3, 300)]
    refused = {"error": {"message": "No.", "type": "invalid_request_error", "param": None, "code": None}}
    bad = [
        result(2, {"status_code": 400, "request_id": "req_2", "body": refused}),
        result(20, None, {"code": "batch_expired", "message": "Too late."}),
    ]
    lines = [json.loads(line) for line in merged_as_vllm(io.BytesIO(b"".join(good)), io.BytesIO(b"".join(bad)))]
    assert [line["custom_id"] for line in lines] == ["1", "2", "3", "20", "300"]
    assert lines[0] == {
        "id": "vllm-ab00000001",
        "custom_id": "1",
        "response": {"status_code": 200, "request_id": "vllm-batch-1", "body": {"n": 1}},
        "error": None,
    }
    assert lines[1]["response"] == {"status_code": 400, "request_id": "vllm-batch-2", "body": None}
    assert lines[1]["error"] == refused
    assert lines[3]["response"]["body"] is None
    assert lines[3]["error"] == "Too late."
