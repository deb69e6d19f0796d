"""Which URLs in a body count as media."""

import json
from typing import Any

import pytest

from jobs.admission.media import refuse_urls
from jobs.errors import BadRequest

URL = "https://example.com/x"


def check(**body: Any) -> None:
    refuse_urls(json.dumps(body).encode(), body)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"content": [{"image_url": {"url": URL}}]}]}, "messages.0.content.0.image_url.url"),
        ({"messages": [{"content": [{"image_url": URL}]}]}, "messages.0.content.0.image_url"),
        (
            {"messages": [{"content": [{"type": "video_url", "video_url": {"url": URL}}]}]},
            "messages.0.content.0.video_url.url",
        ),
        (
            {"messages": [{"content": [{"type": "audio_url", "audio_url": {"url": URL}}]}]},
            "messages.0.content.0.audio_url.url",
        ),
        ({"input": [{"content": [{"type": "input_file", "file_url": URL}]}]}, "input.0.content.0.file_url"),
        ({"messages": [{"content": [{"source": {"type": "url", "url": URL}}]}]}, "messages.0.content.0.source.url"),
        ({"documents": {"content": [{"image_url": {"url": "ftp://x"}}]}}, "documents.content.0.image_url.url"),
        ({"image_url": "data"}, "image_url"),
    ],
)
def test_media_by_url_is_refused_with_its_place(body: Any, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check(**body)
    assert caught.value.param == param


def test_an_escaped_name_does_not_slip_through() -> None:
    raw = b'{"messages": [{"content": [{"image\\u005fur\\u006c": {"ur\\u006c": "http://x"}}]}]}'
    with pytest.raises(BadRequest):
        refuse_urls(raw, json.loads(raw))


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"content": f"look at {URL}"}]},
        {"messages": [{"content": [{"image_url": {"url": "DATA:image/png;base64,AA=="}}]}]},
        {"messages": [{"content": [{"image_url": None}]}]},
        {"input": [{"content": [{"annotations": [{"type": "url_citation", "url": URL}]}]}]},
        {"tools": [{"function": {"parameters": {"properties": {"image_url": {"default": URL}}}}}]},
        {"metadata": {"image_url": URL}},
    ],
)
def test_what_is_never_fetched_passes(body: Any) -> None:
    check(**body)
