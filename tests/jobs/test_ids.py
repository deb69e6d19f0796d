"""Ids sort by the time they were made, and have one public spelling."""

import time
from uuid import UUID

import pytest

from jobs import ids
from jobs.errors import NotFound


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = ids.new()
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"


def test_no_two_ids_are_equal() -> None:
    assert len({ids.new() for _ in range(10_000)}) == 10_000


def test_ids_sort_by_the_time_they_were_made() -> None:
    moments = [ids.floor(second) for second in (0, 1, 1.001, 1_700_000_000, 4_000_000_000)]
    assert moments == sorted(moments)


def test_an_id_lies_between_the_floors_of_its_moment() -> None:
    before = time.time()
    made = ids.new()
    assert ids.floor(before) <= made < ids.floor(time.time() + 0.001)
    assert before - 0.001 <= ids.seconds(made) <= time.time()


def test_the_public_spelling_can_be_read_back() -> None:
    made = ids.new()
    assert ids.job_id(made) == f"job_{made.hex}"
    assert ids.parse_job_id(ids.job_id(made)) == made


DIGITS = "019a9f3c7be27d0c8f5e0a1b2c3d4e5f"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "job",
        "job_",
        DIGITS,
        f"batch_{DIGITS}",
        f"JOB_{DIGITS}",
        f"job_{UUID(DIGITS)}",
        f"job_{DIGITS[:-1]}",
        f"job_{DIGITS}0",
        f"job_{DIGITS}\n",
        f"job_{DIGITS[:-1]}g",
        f"job_{{{DIGITS[:-2]}}}",
        f"job_{DIGITS.upper()}",
        f"job_+{DIGITS[1:]}",
        f"job_ {DIGITS[1:]}",
        f"job_{DIGITS[0]}_{DIGITS[2:]}",
        "job_\N{ARABIC-INDIC DIGIT ZERO}" + DIGITS[1:],
    ],
)
def test_no_other_spelling_is_a_jobs_id(text: str) -> None:
    with pytest.raises(NotFound) as caught:
        ids.parse_job_id(text)
    assert caught.value.param == "id"


def test_ids_sort_in_the_order_in_which_they_were_made() -> None:
    made = [ids.new() for _ in range(20_000)]
    assert made == sorted(made)
