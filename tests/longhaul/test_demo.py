"""What the demonstration sends."""

from longhaul import demo


def test_the_texts_are_different_paragraphs_of_python_itself() -> None:
    texts = demo.paragraphs(220)
    assert len(set(texts)) == 220
    assert all(10 <= len(text.split()) <= 120 for text in texts)


def test_two_hundred_requests_are_asynchronous() -> None:
    requests = dict(demo.WAYS)
    waited = requests.pop(demo.wait_like_openai)
    assert sum(requests.values()) == 200
    assert waited > 0


def test_the_requests_ask_for_16_to_96_tokens() -> None:
    limits = {body["max_tokens"] for body in demo.chats(220)}
    assert min(limits) == 16
    assert max(limits) == 96
