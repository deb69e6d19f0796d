"""URLs of media in a body: the worker would fetch them from inside the deployment, so only `data:` ones pass."""

from typing import Any, Final

from jobs.errors import BadRequest
from jobs.records import Json

_FIELDS: Final = frozenset({"image_url", "audio_url", "video_url", "file_url"})
"""Where chat, Responses and pooling bodies name media: a URL, or an object with `url`."""
_SOURCE: Final = "source"
"""Where Anthropic's Messages do: an object with `url`."""
_OPAQUE: Final = frozenset({"tools", "response_format", "text", "structured_outputs", "metadata"})
"""Fields at the top that hold schemas and texts, never media."""


def refuse_urls(raw: bytes, body: Json) -> None:
    """Refuse what is not a `data:` URL. `raw` is the same body as bytes.

    Raises:
        BadRequest: with the place of the first such URL in `param`.
    """
    if b"url" not in raw and b"\\u" not in raw:
        return
    waiting: list[tuple[str, Any]] = [("", {name: value for name, value in body.items() if name not in _OPAQUE})]
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, list):
            waiting += [(f"{place}{index}.", item) for index, item in enumerate(value)]
        elif isinstance(value, dict):
            for name, item in value.items():
                _refuse(f"{place}{name}", name, item)
                waiting.append((f"{place}{name}.", item))


def _refuse(place: str, name: str, value: Any) -> None:
    if isinstance(value, dict) and (name in _FIELDS or name == _SOURCE):
        place, value = f"{place}.url", value.get("url")
    elif name not in _FIELDS:
        return
    if isinstance(value, str) and not value[:5].lower() == "data:":
        raise BadRequest(
            f"'{place}': URLs of media are not fetched by this server; send the content itself as a data: URL."
            " (The operator can open this with LONGHAUL_MEDIA_URLS=true.)",
            param=place,
            code="unsupported_media_url",
        )
