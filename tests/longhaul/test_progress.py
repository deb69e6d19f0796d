"""What a person who waits is told."""

from longhaul.progress import JobStates


def test_the_states_are_counted_in_words() -> None:
    states = JobStates()
    for number, status in enumerate(["queued", "completed", "queued", "failed"]):
        states.saw({"id": f"job_{number}", "status": status, "queue": None})
    assert str(states) == "2 queued, 1 completed, 1 failed"
    assert states.ended == 2


def test_one_queued_job_has_a_place() -> None:
    states = JobStates()
    states.saw({"id": "job_1", "status": "queued", "queue": {"position": 12}})
    assert str(states) == "1 queued, place 12 in the queue"
    states.saw({"id": "job_1", "status": "in_progress", "queue": None})
    assert str(states) == "1 in_progress"
