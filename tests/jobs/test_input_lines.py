"""Lines of input files: how they are told apart, found again and put in order."""

import itertools
import random
import time
import tracemalloc
from collections.abc import AsyncIterator

import pytest

from jobs import input_lines
from jobs.errors import TooLarge
from jobs.input_lines import Seen


async def chunks(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def split(data: bytes, size: int = 7, longest: int = 100) -> list[tuple[int, bytes | None]]:
    return [line async for line in input_lines.split(chunks(data, size), longest)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_lines_are_whole_wherever_chunks_end(size: int) -> None:
    assert await split(b"one\ntwo\nthree", size) == [(1, b"one"), (2, b"two"), (3, b"three")]


async def test_blank_lines_count_and_are_left_out() -> None:
    assert await split(b"\none\n  \r\n\ntwo\r\n") == [(2, b"one"), (5, b"two\r")]


@pytest.mark.parametrize("size", [7, 1000])
async def test_a_line_that_is_too_long_is_none_and_those_after_it_are_read(size: int) -> None:
    assert await split(b"x" * 500 + b"\ntwo", size) == [(1, None), (2, b"two")]
    assert await split(b"one\n" + b"x" * 500, size) == [(1, b"one"), (2, None)]


async def test_a_line_of_many_chunks_takes_time_by_its_length() -> None:
    begun = time.perf_counter()
    [(number, line)] = await split(b"x" * 2**23, size=2**9, longest=2**23)
    assert (number, len(line or b"")) == (1, 2**23)
    assert time.perf_counter() - begun < 3


async def test_no_more_is_held_of_a_line_than_the_longest_has() -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b"x" * 2**20

    tracemalloc.start()
    try:
        assert [line async for line in input_lines.split(endless(), 2**21)] == [(1, None)]
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("crowd", ["[],", "{},", "1,"])
def test_a_line_of_too_many_values_is_refused_unread(crowd: str) -> None:
    with pytest.raises(TooLarge) as refused:
        input_lines.read(crowd.encode() * 1_000_001, "/v1/completions")
    assert refused.value.code == "request_too_large"


def test_what_was_seen_is_found_by_its_number_among_many() -> None:
    chance = random.Random(1)
    digests = [chance.randbytes(16) for _ in range(20_000)]
    seen = Seen()
    assert [seen.add(digest) for digest in digests] == [None] * len(digests)
    assert [seen.add(digest) for digest in digests] == list(range(len(digests)))


def test_digests_that_begin_alike_are_told_apart() -> None:
    seen = Seen()
    same = b"12345678"
    assert [seen.add(same + tail.encode() * 8) for tail in "abca"] == [None, None, None, 0]


def chat(text: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}]}


def test_lines_with_a_beginning_in_common_stand_together_at_every_depth() -> None:
    documents = [f"{number}" * 3000 for number in range(5)]
    lines = [(d, part, q) for q in range(4) for part in range(3) for d in range(5)]
    random.Random(2).shuffle(lines)
    texts = {line: documents[line[0]] + f"part {line[1]}" * 1000 + f"question {line[2]}" for line in lines}
    places = input_lines.Places()
    where = {line: places.of(chat(texts[line]), number) for number, line in enumerate(lines)}
    order = sorted(lines, key=lambda line: where[line])
    groups = [line[:2] for line in order]
    assert sum(before != after for before, after in itertools.pairwise(groups)) == 14
    assert sum(before != after for before, after in itertools.pairwise(order) if before[0] != after[0]) == 4


def test_lines_of_the_same_prompt_keep_the_order_of_the_file() -> None:
    same = input_lines.Places()
    places = [same.of(chat("hello"), line) for line in (1, 2, 300, 70_000)]
    assert places == sorted(places)
    assert {len(place) for place in places} == {24}


@pytest.mark.parametrize("instructions", ["", "You are a helpful assistant. " * 100])
def test_lines_with_nothing_but_their_instructions_in_common_keep_the_order_of_the_file(instructions: str) -> None:
    file = input_lines.Places()
    places = [file.of(chat(f"{instructions}{random.Random(line).random()}" * 9), line) for line in range(100)]
    assert places == sorted(places)


@pytest.mark.parametrize("instructions", ["", "You are a helpful assistant. " * 10])
def test_what_may_run_longest_goes_first(instructions: str) -> None:
    limits: list[dict[str, object]] = [{"max_tokens": 16}, {"max_tokens": 300}, {}, {"max_completion_tokens": 90}]
    limits += [{"max_tokens": 2**70}, {"max_tokens": 0}, {"max_tokens": 257}]
    file = input_lines.Places()
    file.of(chat(instructions), 0)
    places = {line: file.of(chat(f"{instructions}{line}" * 9) | limit, line) for line, limit in enumerate(limits, 1)}
    assert sorted(places, key=places.__getitem__) == [3, 5, 2, 7, 4, 1, 6]


def test_lines_with_a_beginning_in_common_stand_together_however_long_they_may_run() -> None:
    file = input_lines.Places()
    lines = [("a", 16), ("b", 300), ("a", 300), ("b", 16)]
    places = [file.of(chat(text * 200) | {"max_tokens": limit}, line) for line, (text, limit) in enumerate(lines)]
    assert sorted(range(4), key=places.__getitem__) == [1, 3, 0, 2]


@pytest.mark.parametrize(
    ("body", "deterministic"),
    [({"temperature": 0}, True), ({"seed": 0}, True), ({"temperature": 0.5}, False), ({}, False)],
)
def test_only_what_would_be_answered_the_same_is_deterministic(body: dict[str, object], deterministic: bool) -> None:
    assert input_lines.is_deterministic(body) is deterministic
