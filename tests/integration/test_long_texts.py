"""Long texts, written out piece by piece against a provider that can be told to fail."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from processors import _writing
from processors._pieces import tokens_in
from processors._wire import Deadlines
from processors.text_expansion import ExpandedText, TextExpansion
from reyna.content import Derived, Source
from reyna.errors import Permanent, Transient
from reyna.settings import Settings
from tests import provider as providers
from tests.provider import Provider, hang, raw, refuse, say, written_out

PARAGRAPHS = [
    f"Chapter {number}. "
    + f"In the year {number} the harbour was quiet and the boats were gone. " * 9
    for number in range(1, 7)
]
LONG = "\n\n".join(paragraph.strip() for paragraph in PARAGRAPHS)
TOO_LONG = {"code": "context_length_exceeded"}


@pytest.fixture
async def provider(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Provider]:
    """A provider that writes out what it is asked for."""
    monkeypatch.setattr(_writing, "FIRST_WAIT", 0.01)
    async with providers.running() as provider:
        yield provider


@asynccontextmanager
async def against(provider: Provider, **fields: object) -> AsyncIterator[TextExpansion]:
    """A text expansion with a small window at a provider."""
    given = {"text_model": "paper", "text_window": 2048, **fields}
    settings = msgspec.convert({"text_base_url": provider.base_url, **given}, Settings)
    expansion = TextExpansion(Deadlines(silence=0.5))
    async with expansion.lifespan(settings):
        yield expansion


def source(content: str = LONG, **settings: object) -> Source:
    """A blob with a text, and its owner's settings."""
    return Source(
        owner="u1",
        blob_id="b1",
        schema_id="text-input-v1",
        data=msgspec.Raw(msgspec.json.encode({"content": content})),
        settings=msgspec.Raw(msgspec.json.encode(settings)),
    )


class Listener:
    """Collects what is heard."""

    def __init__(self) -> None:
        self.heard = ""

    async def __call__(self, text: str) -> None:
        """Take one piece."""
        self.heard += text


def text_of(derived: Derived) -> ExpandedText:
    """The data of what was made."""
    return msgspec.json.decode(derived.data, type=ExpandedText)


def whole(provider: Provider, content: str = LONG) -> None:
    """All of a text was asked for, in order and nothing twice."""
    asked = [one.text for one in provider.asked]
    assert re.sub(r"\s", "", "".join(asked)) == re.sub(r"\s", "", content)


async def test_a_long_text_is_written_in_pieces_and_heard_as_one(provider: Provider) -> None:
    """Its pieces fit the window, come in order with the blanks between them, and what was heard is
    what is kept; tokens are summed.
    """
    listener = Listener()
    async with against(provider) as expansion:
        derived = await expansion.run(source(), listener)
    count = len(provider.asked)
    assert count > 3
    whole(provider)
    made = text_of(derived)
    assert made.original == LONG
    assert made.expanded == listener.heard
    assert made.expansion_ratio == round(len(made.expanded) / len(LONG), 3)
    assert [part for part in made.expanded.split("\n\n") if part.startswith("Chapter")]
    assert made.expanded.count("And so on") == count
    assert (derived.tokens_in, derived.tokens_out) == (10 * count, 20 * count)
    assert derived.model == "paper"
    for asked in provider.asked:
        said = sum(tokens_in(message.content) for message in asked.body.messages)
        assert said + 3 * tokens_in(asked.text) < 2048


async def test_each_piece_is_told_what_came_before(provider: Provider) -> None:
    """Each piece comes with its place, and from the second on with the end of what was written."""
    async with against(provider) as expansion:
        await expansion.run(source(), Listener())
    first, *others = provider.asked
    count = len(provider.asked)
    assert "<before>" not in first.material
    assert f"part 1 of {count}" in first.system
    for number, (last, asked) in enumerate(zip(provider.asked, others, strict=False), start=2):
        before = asked.material.partition("</before>")[0].removeprefix("<before>\n").rstrip()
        assert before
        assert written_out(last.text).endswith(before)
        assert tokens_in(before) <= 200
        assert f"part {number} of {count}" in asked.system


async def test_a_short_text_is_no_part_of_anything(provider: Provider) -> None:
    """What fits is asked for at once, and not as a part."""
    async with against(provider) as expansion:
        await expansion.run(source("Boats gone."), Listener())
    (asked,) = provider.asked
    assert "part" not in asked.system.replace("by part", "")


async def test_a_piece_that_is_turned_away_is_asked_again_at_once(provider: Provider) -> None:
    """A 429 and a 503 in the middle are waited for: nothing is paid twice, the attempt goes on."""
    async with against(provider) as expansion:
        provider.steps += [
            providers.expand,
            refuse(429, Retry_After="0.01"),
            refuse(503, Retry_After="0"),
        ]
        listener = Listener()
        derived = await expansion.run(source(), listener)
    assert text_of(derived).expanded == listener.heard
    again = [asked.text for asked in provider.asked]
    assert again[1] == again[2] == again[3]
    del provider.asked[1:3]
    whole(provider)


@pytest.mark.parametrize("wait", ["3600", "61"])
async def test_a_long_wait_is_left_to_who_runs_it(provider: Provider, wait: str) -> None:
    """An endpoint that wants a long pause ends the attempt with just that."""
    provider.steps += [providers.expand, refuse(429, Retry_After=wait)]
    async with against(provider) as expansion:
        with pytest.raises(Transient) as raised:
            await expansion.run(source(), Listener())
    assert raised.value.retry_after == float(wait)
    assert len(provider.asked) == 2


async def test_a_piece_is_not_asked_for_ever(provider: Provider) -> None:
    """After three times the attempt ends, and says why."""
    provider.otherwise = refuse(500, Retry_After="0")
    provider.steps.append(providers.expand)
    async with against(provider) as expansion:
        with pytest.raises(Transient, match="500"):
            await expansion.run(source(), Listener())
    assert len(provider.asked) == 1 + _writing.TRIES


@pytest.mark.parametrize(
    "broken",
    [
        say("The harbour lay", None),
        say("The harbour lay", "length"),
        say("Too short."),
        hang,
        raw(b'data: {"choices": [\n\n'),
        raw(b"<html>Bad gateway</html>", "text/html"),
        refuse(429, Retry_After="3600"),
    ],
    ids=["cut stream", "out of room", "shorter", "hang", "malformed", "no stream", "429"],
)
async def test_the_next_attempt_goes_on_where_one_broke_off(
    provider: Provider, broken: providers.Step
) -> None:
    """What was written before the failure is told again and not paid for again."""
    async with against(provider) as expansion:
        provider.steps += [providers.expand, providers.expand, broken]
        provider.otherwise = broken
        with pytest.raises(Transient):
            await expansion.run(source(), Listener())
        paid = [asked.text for asked in provider.asked[:2]]
        provider.asked.clear()
        provider.steps.clear()
        provider.otherwise = providers.expand
        listener = Listener()
        derived = await expansion.run(source(), listener)
    assert text_of(derived).expanded == listener.heard
    assert listener.heard.startswith(written_out(paid[0]))
    asked = [one.text for one in provider.asked]
    assert not set(paid) & set(asked)
    assert re.sub(r"\s", "", "".join(paid + asked)) == re.sub(r"\s", "", LONG)
    count = len(paid) + len(asked)
    assert (derived.tokens_in, derived.tokens_out) == (10 * count, 20 * count)


async def test_what_broke_off_is_gone_on_with_for_the_same_wish_alone(provider: Provider) -> None:
    """Another text, user or setting begins anew; once a text is written, so does the same."""
    async with against(provider) as expansion:
        provider.steps += [providers.expand, say("It was quiet", None)]
        with pytest.raises(Transient):
            await expansion.run(source(), Listener())
        for other in (
            source(length_factor=2.5),
            source(LONG + "\n\nThe end."),
            msgspec.structs.replace(source(), owner="u2"),
            msgspec.structs.replace(source(), blob_id="b2"),
        ):
            provider.asked.clear()
            await expansion.run(other, Listener())
            assert provider.asked[0].text.startswith("Chapter 1.")
        provider.asked.clear()
        await expansion.run(source(), Listener())
        assert not provider.asked[0].text.startswith("Chapter 1.")
        provider.asked.clear()
        await expansion.run(source(), Listener())
        assert provider.asked[0].text.startswith("Chapter 1.")


async def test_a_cancelled_text_is_gone_on_with(provider: Provider) -> None:
    """What was written before a cancellation is not paid for again by the next run."""
    provider.steps += [providers.expand, hang]
    async with against(provider) as expansion:
        running = asyncio.create_task(expansion.run(source(), Listener()))
        while len(provider.asked) < 2:
            provider.came.clear()
            await provider.came.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        provider.asked.pop()
        await expansion.run(source(), Listener())
    whole(provider)


async def test_a_window_smaller_than_was_said_is_met_by_smaller_pieces(provider: Provider) -> None:
    """What is too long for the model is cut smaller once, at once."""
    provider.steps += [providers.expand, refuse(400, TOO_LONG)]
    listener = Listener()
    async with against(provider) as expansion:
        derived = await expansion.run(source(), listener)
    assert text_of(derived).expanded == listener.heard
    refused = provider.asked.pop(1)
    assert tokens_in(provider.asked[1].text) < 0.7 * tokens_in(refused.text)
    whole(provider)


async def test_a_window_far_too_small_fails_for_good(provider: Provider) -> None:
    """What is too long even in smaller pieces is not cut ever smaller."""
    provider.otherwise = refuse(400, TOO_LONG)
    async with against(provider) as expansion:
        with pytest.raises(Permanent, match="REYNA_TEXT_WINDOW"):
            await expansion.run(source(), Listener())
    assert len(provider.asked) == 2


async def test_an_answer_out_of_room_is_never_kept(provider: Provider) -> None:
    """It is asked for once more in smaller pieces, then fails for good."""
    provider.otherwise = say("The harbour lay quiet. " * 200, "length")
    async with against(provider) as expansion:
        with pytest.raises(Transient, match="smaller pieces"):
            await expansion.run(source(), Listener())
        with pytest.raises(Permanent, match="ran out of room"):
            await expansion.run(source(), Listener())
    first, second = provider.asked
    assert tokens_in(second.text) < 0.7 * tokens_in(first.text)


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (say("", refusal="I cannot write that."), "declined.*I cannot write that"),
        (say("The harbour", "content_filter"), "declined"),
        (refuse(400, {"code": "content_filter"}), "declined"),
        (refuse(402), "no credit"),
    ],
)
async def test_what_the_provider_will_not_do_fails_for_good(
    provider: Provider, step: providers.Step, says: str
) -> None:
    """A refusal is told as one, in the middle of a text as at its beginning."""
    provider.steps += [providers.expand, step]
    async with against(provider) as expansion:
        with pytest.raises(Permanent, match=says):
            await expansion.run(source(), Listener())
    assert len(provider.asked) == 2


async def test_an_excuse_is_no_expansion(provider: Provider) -> None:
    """An answer that is shorter than the text is quoted, not kept."""
    provider.otherwise = say("I'm sorry, but I can't help with that.")
    async with against(provider) as expansion:
        with pytest.raises(Transient, match=r"shorter than the text.*I'm sorry, but"):
            await expansion.run(source(), Listener())


async def test_usage_that_is_not_told_is_not_made_up(provider: Provider) -> None:
    """When one piece has no usage, the sums are unknown, and so is the cost."""
    provider.steps += [providers.expand, say("The harbour lay quiet. " * 200, usage=None)]
    async with against(provider, text_price=(1.0, 2.0)) as expansion:
        derived = await expansion.run(source(), Listener())
    assert (derived.tokens_in, derived.tokens_out, derived.cost) == (None, None, None)
    assert derived.seconds is not None


async def test_what_it_cost_is_by_the_operators_price(provider: Provider) -> None:
    """With a price set and usage told, the run says its cost; without a price it does not."""
    async with against(provider, text_price=(1.0, 2.0)) as expansion:
        priced = await expansion.run(source(), Listener())
    count = len(provider.asked)
    assert priced.cost == pytest.approx(count * (10 * 1.0 + 20 * 2.0) / 1e6)
    async with against(provider) as expansion:
        assert (await expansion.run(source(), Listener())).cost is None


async def test_a_cost_that_the_provider_tells_goes_first(provider: Provider) -> None:
    """Endpoints that bill by themselves know best."""
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2, "cost": 0.25}
    provider.otherwise = say("The harbour lay quiet. " * 200, usage=usage)
    async with against(provider, text_price=(1.0, 2.0)) as expansion:
        derived = await expansion.run(source(), Listener())
    assert derived.cost == 0.25 * len(provider.asked)


async def test_settings_reach_the_model(provider: Provider) -> None:
    """Style, length, language and temperature are what is asked for, the text's own style first."""
    wish = {"style": "dry", "length_factor": 1.5, "language": "pt-BR", "temperature": 0.5}
    async with against(provider) as expansion:
        await expansion.run(source("Boats gone.", **wish), Listener())
        data = msgspec.Raw(msgspec.json.encode({"content": "Boats gone.", "style": "wet"}))
        await expansion.run(
            msgspec.structs.replace(source("Boats gone.", **wish), data=data), Listener()
        )
    first, second = provider.asked
    assert first.body.temperature == 0.5
    for words in ("about 1.5 times", "tag is pt-BR", "this style: dry"):
        assert words in first.system
    assert "this style: wet" in second.system
    assert "dry" not in second.system
