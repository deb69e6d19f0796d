"""An engine that does what each request tells it to: a real ASGI app with an engine's calls, and a journal.

`LONGHAUL_ENGINE=tests.engines.scripted:factory` runs it in a worker, `:instant` the one that answers at once. The
environment steers it: LONGHAUL_TEST_JOURNAL (a file), LONGHAUL_TEST_SLOTS, LONGHAUL_TEST_MODEL, LONGHAUL_TEST_ALIASES
and LONGHAUL_TEST_ADAPTERS (comma-separated), LONGHAUL_TEST_DELAY (seconds of every answer), LONGHAUL_TEST_PACE (seconds
between the tokens of every stream), LONGHAUL_TEST_START (seconds until it is up). A request steers it by its field
`script`: see `tests.engines.script`; the tools and forms of a chat are served too: see `tests.engines.obliging`.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.records import Json, Registration
from jobs.settings import Settings
from tests.engines import obliging, responded, streamed
from tests.engines.script import ENDPOINTS, Script, allowed, words
from tests.journal import Event, Journal, read, starts
from worker.asgi import Application, Headers, Receive, Scope, Send

CONTEXT_LENGTH = 4096


class ScriptedEngine:
    """The engine itself. `app` is a bound method, so it can be served by uvicorn too (`lifespan="off"`)."""

    def __init__(self) -> None:
        journal = os.environ.get("LONGHAUL_TEST_JOURNAL")
        self._journal_path = Path(journal) if journal else None
        self._journal = Journal(self._journal_path) if self._journal_path else None
        self._delay = float(os.environ.get("LONGHAUL_TEST_DELAY", 0))
        self._pace = float(os.environ.get("LONGHAUL_TEST_PACE", 0))
        self._dead = asyncio.Event()
        self.slots = int(os.environ.get("LONGHAUL_TEST_SLOTS", 64))
        self.model = os.environ.get("LONGHAUL_TEST_MODEL", "scripted")

    async def start(self) -> None:
        await asyncio.sleep(float(os.environ.get("LONGHAUL_TEST_START", 0)))

    def alive(self) -> bool:
        return not self._dead.is_set()

    async def describe(self) -> Registration:
        return Registration(
            model=self.model,
            aliases=_names("LONGHAUL_TEST_ALIASES"),
            adapters=_names("LONGHAUL_TEST_ADAPTERS"),
            endpoints=ENDPOINTS,
            context_length=CONTEXT_LENGTH,
            slots=self.slots,
        )

    def verdict(self, status: int, headers: Headers) -> float | None:
        """A 429 or 503 is the engine's trouble, for its `Retry-After` or one second."""
        if status not in (429, 503):
            return None
        return float(dict(headers).get(b"retry-after", b"1"))

    async def stop(self) -> None:
        self._dead.set()
        if self._journal:
            self._journal.close()
            self._journal = None

    @property
    def app(self) -> Application:
        return self._serve

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = json.loads(await _read(receive) or b"{}")
        if scope["path"] not in ENDPOINTS:
            return await _answer(send, 404, {"detail": "Not Found"})
        request = body.get("request_id", "")
        script = self._orders(Script(**{"pace": self._pace, **(body.get("script") or {})}), request)
        seconds = self._delay if script.delay is None else script.delay
        tokens = allowed(body) if script.tokens is None else script.tokens
        self._note("start", request)
        if body.get("stream"):
            return await self._stream(scope["path"], body, script, seconds, receive, send)
        began, ended = time.monotonic(), False
        try:
            ended = await self._run(script, seconds, receive)
        finally:
            share = 1.0 if ended else _share(time.monotonic() - began, seconds)
            self._note("end" if ended else "abort", request, int(tokens * share))
        if not self.alive():
            await _answer(send, 500, _error("EngineCore encountered an issue.", "InternalServerError", 500))
            raise RuntimeError("the engine is dead")
        if not ended:
            await _answer(send, 200, None)
        elif script.fail:
            error = _error("It was told to fail.", "ScriptedError", script.fail)
            await _answer(send, script.fail, error, _retry_after(script))
        else:
            await _answer(send, 200, self._response(scope["path"], body, script, tokens))

    async def _stream(
        self, path: str, body: Json, script: Script, seconds: float, receive: Receive, send: Send
    ) -> None:
        """The same answer word by word."""
        tokens = allowed(body) if script.tokens is None else script.tokens
        said, ended, broken = 0, False, False
        first = script if script.break_after is None else script.gentle
        try:
            if not await self._run(first, seconds, receive) or first.fail:
                ended = bool(first.fail)
                return await self._refuse(send, script)
            await send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
            for said, event in enumerate(streamed.events(body, self._response(path, body, script, tokens))):
                if said - 1 == script.break_after:
                    broken = not await self._run(script, 0, receive) or bool(script.fail)
                elif said and script.pace:
                    broken = not await self._run(script.gentle, script.pace, receive)
                if broken:
                    break
                await send({"type": "http.response.body", "body": event, "more_body": True})
            ended = not broken
        finally:
            self._note("end" if ended else "abort", body.get("request_id", ""), max(0, said - 1))
        if broken:
            error = _error("It was told to fail.", "InternalServerError", script.fail or 500)
            said_last = streamed.event(error) + streamed.DONE
            await send({"type": "http.response.body", "body": said_last, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _refuse(self, send: Send, script: Script) -> None:
        if not self.alive():
            await _answer(send, 500, _error("EngineCore encountered an issue.", "InternalServerError", 500))
            raise RuntimeError("the engine is dead")
        if script.fail:
            error = _error("It was told to fail.", "ScriptedError", script.fail)
            return await _answer(send, script.fail, error, _retry_after(script))
        await _answer(send, 200, None)

    def _orders(self, script: Script, request: str) -> Script:
        if script.times is None or not script.harmful or not self._journal_path:
            return script
        if starts(read(self._journal_path))[request.partition("-")[0]] < script.times:
            return script
        return script.gentle

    async def _run(self, script: Script, seconds: float, receive: Receive) -> bool:
        """Take as long as the script says, and do its harm. False: the client went away, or the engine died."""
        if script.crash:
            raise RuntimeError("the app was told to crash")
        if seconds or script.hang:
            died = asyncio.ensure_future(self._dead.wait())
            gone = died if script.deaf else asyncio.ensure_future(receive())
            try:
                limit = None if script.hang else seconds
                done, _ = await asyncio.wait({died, gone}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            finally:
                died.cancel()
                gone.cancel()
            if done:
                return False
        if script.exit:
            os.kill(os.getpid(), signal.SIGKILL)
        if script.die:
            self._dead.set()
        return self.alive()

    def _response(self, path: str, body: Json, script: Script, tokens: int) -> Json:
        prompt = words(body)
        model = body.get("model") or self.model
        text = " ".join(["word"] * tokens) if script.text is None else script.text
        head = {"created": int(time.time()), "model": model}
        usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        identity = body.get("request_id", "none")
        choice = {"index": 0, "finish_reason": script.finish_reason, "logprobs": None}
        if path == "/v1/chat/completions":
            choice |= _spoken(body, script, text)
            kind = {"id": f"chatcmpl-{identity}", "object": "chat.completion", "service_tier": None}
            return kind | head | {"choices": [choice], "usage": usage}
        if path == "/v1/completions":
            kind = {"id": f"cmpl-{identity}", "object": "text_completion"}
            return kind | head | {"choices": [choice | {"text": text}], "usage": usage}
        if path == "/v1/responses":
            return responded.response(body, model, text, prompt, tokens)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = [{"index": i, "object": "embedding", "embedding": _vector(text)} for i, text in enumerate(inputs)]
        usage = {"prompt_tokens": prompt, "total_tokens": prompt}
        return {"id": f"embd-{identity}", "object": "list"} | head | {"data": data, "usage": usage}

    def _note(self, event: Event, request: str, tokens: int = 0) -> None:
        if self._journal:
            self._journal.write(event, request, tokens)


class InstantEngine(ScriptedEngine):
    """Answers every request with the same bytes at once and looks at nothing: what is left is the cost of the queue."""

    def __init__(self) -> None:
        super().__init__()
        body = {"request_id": "instant", "messages": [{"role": "user", "content": "one two three"}]}
        response = self._response("/v1/chat/completions", body, Script(), 16)
        payload = json.dumps(response, separators=(",", ":")).encode()
        self._head = {"type": "http.response.start", "status": 200, "headers": _headers(payload)}
        self._payload = {"type": "http.response.body", "body": payload, "more_body": False}

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send(self._head)
        await send(self._payload)


def factory(settings: Settings, arguments: Sequence[str]) -> ScriptedEngine:
    """The engine that `worker.engines.load` makes of `tests.engines.scripted:factory`."""
    return ScriptedEngine()


def instant(settings: Settings, arguments: Sequence[str]) -> InstantEngine:
    """The engine without an engine's cost, for benches."""
    return InstantEngine()


def _names(variable: str) -> tuple[str, ...]:
    return tuple(filter(None, os.environ.get(variable, "").split(",")))


async def _read(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def _spoken(body: Json, script: Script, text: str) -> Json:
    """The message of a chat, and why it ended. Who orders a text gets it; else tools and forms are served."""
    message: Json = {"role": "assistant", "content": text}
    if script.text is not None:
        return {"message": message}
    if calls := obliging.tool_calls(body):
        return {"message": message | {"content": None, "tool_calls": calls}, "finish_reason": "tool_calls"}
    return {"message": message | {"content": obliging.formed(body) or text}}


def _share(elapsed: float, seconds: float) -> float:
    return min(1.0, elapsed / seconds) if seconds else 0.0


def _retry_after(script: Script) -> Headers:
    return [] if script.retry_after is None else [(b"retry-after", str(script.retry_after).encode())]


_EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


def _headers(payload: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]


async def _answer(send: Send, status: int, body: Json | None, headers: Headers = ()) -> None:
    payload = json.dumps(body).encode()
    await send({"type": "http.response.start", "status": status, "headers": [*_headers(payload), *headers]})
    await send({"type": "http.response.body", "body": payload, "more_body": False})


def _error(message: str, kind: str, status: int) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": status}}


def _vector(text: str) -> list[float]:
    total = sum(text.encode())
    return [round((total * factor % 97) / 97, 6) for factor in (3, 5, 7, 11)]
