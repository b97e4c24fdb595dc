"""A provider that speaks the OpenAI API over real HTTP, streams, and does as its test says."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import msgspec

_TEXT = re.compile(r"<(text(?:-x)*)>\n(.*)\n</\1>\Z", re.DOTALL)
_USAGE = {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30}


class Message(msgspec.Struct, frozen=True):
    """One of the messages that a model is asked with."""

    role: str
    content: str


class Body(msgspec.Struct, frozen=True):
    """What is read of a request's body."""

    messages: list[Message]
    model: str
    temperature: float | None = None


class Asked(msgspec.Struct, frozen=True):
    """A request: its headers by lower-case name, its body, and what else its client may say."""

    headers: Mapping[str, str]
    body: Body
    client: asyncio.StreamReader

    @property
    def system(self) -> str:
        """The instructions."""
        return self.body.messages[0].content

    @property
    def material(self) -> str:
        """All that the user's message says."""
        return self.body.messages[-1].content

    @property
    def text(self) -> str:
        """The text that is to be written out."""
        found = _TEXT.search(self.material)
        assert found is not None, self.material
        return found[2]


Step = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Provider:
    """Takes one step of `steps` for each request, and `otherwise` when there is none left."""

    def __init__(self) -> None:
        self.base_url = ""
        self.steps: deque[Step] = deque()
        self.otherwise: Step = expand
        self.asked: list[Asked] = []
        self.came = asyncio.Event()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:]
            pairs = (line.split(": ", 1) for line in lines if line)
            headers = {name.lower(): value for name, value in pairs}
            raw = await reader.readexactly(int(headers.get("content-length", "0")))
            asked = Asked(headers, msgspec.json.decode(raw, type=Body), reader)
            self.asked.append(asked)
            self.came.set()
            step = self.steps.popleft() if self.steps else self.otherwise
            await step(asked, writer)
            await writer.drain()
        writer.close()


def written_out(text: str) -> str:
    """What this provider makes of a text."""
    return f"{text} And so on, and so forth, {text.split(maxsplit=1)[0]}."


async def expand(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Write the text out."""
    await say(written_out(asked.text))(asked, writer)


def say(
    text: str,
    finish: str | None = "stop",
    *,
    usage: Mapping[str, object] | None = _USAGE,
    refusal: str | None = None,
) -> Step:
    """Answer so, word by word. Without a finish the stream merely ends."""

    async def step(asked: Asked, writer: asyncio.StreamWriter) -> None:
        _head(writer, "200 OK", "text/event-stream")
        for word in re.findall(r"\S+\s*|\s+", text):
            _chunk(writer, {"delta": {"content": word}})
        if refusal is not None:
            _chunk(writer, {"delta": {"refusal": refusal}})
        if finish is not None:
            _chunk(writer, {"delta": {}, "finish_reason": finish}, usage)
            writer.write(b"data: [DONE]\n\n")

    return step


def refuse(status: int, error: Mapping[str, object] | None = None, **headers: str) -> Step:
    """Answer with an error; header names have underscores."""

    async def step(asked: Asked, writer: asyncio.StreamWriter) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        body = msgspec.json.encode({"error": {"message": "No.", **(error or {})}})
        _head(writer, f"{status} No", "application/json", **named)
        writer.write(body)

    return step


def raw(body: bytes, content_type: str = "text/event-stream") -> Step:
    """Answer 200 with these bytes."""

    async def step(asked: Asked, writer: asyncio.StreamWriter) -> None:
        _head(writer, "200 OK", content_type)
        writer.write(body)

    return step


async def hang(asked: Asked, writer: asyncio.StreamWriter) -> None:
    """Never answer, until the client is gone."""
    await asked.client.read()


@asynccontextmanager
async def running() -> AsyncIterator[Provider]:
    """A provider for the length of the block."""
    provider = Provider()
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0)
    async with server:
        provider.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        yield provider


def _head(writer: asyncio.StreamWriter, status: str, content_type: str, **headers: str) -> None:
    lines = {"Content-Type": content_type, "Connection": "close", **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"HTTP/1.1 {status}\r\n{head}\r\n".encode())


def _chunk(
    writer: asyncio.StreamWriter,
    choice: Mapping[str, object],
    usage: Mapping[str, object] | None = None,
) -> None:
    chunk = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "paper",
        "choices": [{"index": 0, "finish_reason": None, **choice}],
        "usage": usage,
    }
    writer.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
