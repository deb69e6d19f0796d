"""A form in parts (RFC 7578) as it comes in: its fields, and one file that goes by without being held."""

from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from jobs.errors import BadRequest, TooLarge, WrongContentType

_OVERHEAD_BYTES: Final = 2**20
_LONGEST_FIELD: Final = 2**16
_MOST_FIELDS: Final = 64


@dataclass(frozen=True, slots=True)
class _Head:
    """A part begins. `filename` is None in a plain field."""

    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class _End:
    """The part ends."""


class Form:
    """The form of one request. `fields` fills as the body is read: `file` reads up to the file, `chunks` the file, and
    `rest` what comes behind it.

    All of them raise BadRequest for what is no form, TooLarge for a body that cannot hold a file of `limit` bytes at
    most, and ClientDisconnect.
    """

    def __init__(self, request: Request, limit: int) -> None:
        """Raises WrongContentType, or TooLarge where the header says so already."""
        content_type = request.headers.get("content-type", "")
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or b"boundary" not in options:
            raise WrongContentType(
                f"Send the file as multipart/form-data with a boundary, not as '{content_type:.100}'."
            )
        self.fields: dict[str, str] = {}
        self._too_large = TooLarge(f"The file is over the limit of {limit} bytes.", code="request_too_large")
        self._room = limit + _OVERHEAD_BYTES
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._room:
            raise self._too_large
        self._stream = request.stream()
        self._events: deque[_Head | bytes | _End] = deque()
        self._header = self._value = self._disposition = b""
        self._whole = False
        try:
            self._parser = MultipartParser(
                options[b"boundary"],
                {
                    "on_part_data": lambda data, start, end: self._events.append(data[start:end]),
                    "on_part_end": lambda: self._events.append(_End()),
                    "on_header_field": self._on_header_field,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._on_header_end,
                    "on_headers_finished": self._on_headers_finished,
                    "on_end": self._on_end,
                },
            )
        except FormParserError as error:
            raise _unreadable(str(error)) from None

    async def file(self, name: str) -> str | None:
        """The filename of the part `name`, whose `chunks` come next; None if there is no such part."""
        while head := await self._head():
            if head.name == name:
                return head.filename or name
            await self._take(head)
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes of the part that `file` found."""
        while not isinstance(event := await self._next(), _End):
            assert isinstance(event, bytes)
            yield event

    async def rest(self) -> None:
        """Read to the form's end."""
        while head := await self._head():
            await self._take(head)

    async def _take(self, head: _Head) -> None:
        """A part that is not the file: a field, or a file that nobody asked for, which is passed over."""
        value = b""
        async for chunk in self.chunks():
            if head.filename is None:
                value += chunk
                if len(value) > _LONGEST_FIELD:
                    raise _unreadable(f"the field '{head.name:.100}' is over {_LONGEST_FIELD} bytes")
        if head.filename is None:
            self.fields[head.name] = value.decode(errors="replace")
            if len(self.fields) > _MOST_FIELDS:
                raise _unreadable(f"more than {_MOST_FIELDS} fields")

    async def _head(self) -> _Head | None:
        """The beginning of the next part; None at the form's end."""
        if not self._events and self._whole:
            return None
        event = await self._next()
        assert event is None or isinstance(event, _Head)
        return event

    async def _next(self) -> _Head | bytes | _End | None:
        while not self._events:
            if self._whole:
                return None
            chunk = await anext(self._stream, b"")
            if not chunk:
                raise _unreadable("it breaks off")
            self._room -= len(chunk)
            if self._room < 0:
                raise self._too_large
            try:
                self._parser.write(chunk)
            except FormParserError as error:
                raise _unreadable(str(error)) from None
        return self._events.popleft()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _on_headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        filename = options.get(b"filename")
        name = options.get(b"name", b"").decode(errors="replace")
        self._events.append(_Head(name, None if filename is None else filename.decode(errors="replace")))
        self._disposition = b""

    def _on_end(self) -> None:
        self._whole = True


def _unreadable(why: str) -> BadRequest:
    return BadRequest(f"We could not parse the multipart body of your request: {why}.", code="invalid_multipart")
