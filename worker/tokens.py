"""The engine's own tokens: it is asked for them, and what it said is remembered."""

from typing import Any, Final, Protocol

from jobs import payload
from worker.asgi import Application, Headers
from worker.engines import EngineBusy
from worker.replay import Replay

TOKENIZE: Final = "/tokenize"
_BACK_OFF_SECONDS: Final = 1.0
"""After an engine that failed at a text, or is dead: that says nothing about the text."""
_MOST_KNOWN: Final = 4096
"""Texts whose tokens are remembered."""


class Tokenizing(Protocol):
    """What the dialect needs of an engine."""

    @property
    def app(self) -> Application: ...

    def verdict(self, status: int, headers: Headers) -> float | None: ...


class Tokens:
    """The engine's tokenizer."""

    def __init__(self, engine: Tokenizing) -> None:
        self._engine = engine
        self._known: dict[tuple[Any, str], list[int]] = {}

    async def single(self, text: str, model: Any) -> int | None:
        """The one token that a text is; None if it is not one token."""
        key = (model, text)
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            self._known[key] = await self._ask(text, model)
        tokens = self._known[key]
        return tokens[0] if len(tokens) == 1 else None

    async def _ask(self, text: str, model: Any) -> list[int]:
        body = payload.write({"model": model, "prompt": text, "add_special_tokens": False})
        async with Replay(self._engine.app, TOKENIZE, body) as response:
            back_off = self._engine.verdict(response.status, response.headers)
            if back_off is None and response.status >= 500:
                back_off = _BACK_OFF_SECONDS
            if back_off is not None:
                raise EngineBusy(back_off)
            answer = b"".join([chunk async for chunk in response])
        tokens: list[int] = payload.decode(answer)["tokens"] if response.status == 200 else []
        return tokens
