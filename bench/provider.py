"""A quick provider: an OpenAI-compatible endpoint that streams the same text, 500 words a second.

Owns the peer of `bench.processors`: what a run costs beyond it is ours.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import msgspec
import uvicorn

WORDS = ("The", "last", "tram", "left", "and", "two", "strangers", "shared", "one", "umbrella.") * 8
_Message = dict[str, Any]


def _chunk(delta: _Message, finish: str | None = None, **more: object) -> bytes:
    body = {
        "id": "bench",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "bench",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
        **more,
    }
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


_USAGE = {"prompt_tokens": 100, "completion_tokens": len(WORDS), "total_tokens": 100 + len(WORDS)}
_ANSWER = [
    _chunk({"role": "assistant", "content": ""}),
    *(_chunk({"content": f"{word} "}) for word in WORDS),
    _chunk({}, "stop"),
    _chunk({}, usage=_USAGE).replace(b'"choices":[{', b'"choices":[],"ended":[{'),
    b"data: [DONE]\n\n",
]
_MODELS = msgspec.json.encode({"object": "list", "data": [{"id": "bench", "object": "model"}]})


async def answer(scope: _Message, receive: Any, send: Any) -> None:
    """Answer any chat completion with WORDS, a chunk a word; anything else with the models."""
    while (await receive()).get("more_body"):
        pass
    chat = scope["path"].endswith("/chat/completions")
    kind = b"text/event-stream" if chat else b"application/json"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for part in _ANSWER if chat else [_MODELS]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0.002)
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        answer, host="127.0.0.1", port=int(sys.argv[1]), lifespan="off", log_level="warning"
    )
