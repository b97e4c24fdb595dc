"""How an answer is passed on while it is written, and what is kept of an unfinished text."""

from __future__ import annotations

from collections import deque

import pytest

from processors._pieces import Piece
from processors._wire import Answer
from processors._writing import Desk, Manuscript, Outlet, Passage

ANSWER = Answer(text="Written.", model="m", cut_short=False, tokens_in=1, tokens_out=1)


async def through(*pieces: str, gap: str = "") -> tuple[str, str]:
    """What is heard of an answer in these pieces, and what is kept of it."""
    heard: list[str] = []

    async def listen(text: str) -> None:
        heard.append(text)

    outlet = Outlet(listen, gap)
    for piece in pieces:
        await outlet(piece)
    kept = await outlet.close()
    return "".join(heard), kept


@pytest.mark.parametrize(
    "label",
    [
        "Expanded text: ",
        "**Expanded version:** ",
        "# The rewritten paragraph:\n\n",
        "\n the expanded text:",
    ],
)
async def test_a_heading_of_the_models_own_is_not_kept(label: str) -> None:
    """A label before an expansion is no part of it, however it comes, and is not heard."""
    assert await through(label + "It was.") == ("It was.", "It was.")
    assert await through(*label, *"It was.") == ("It was.", "It was.")
    assert await through(label) == ("", "")


@pytest.mark.parametrize(
    "text", ["The expanded text is long.", "# A heading", "**", "The", "Expand"]
)
async def test_what_only_begins_like_a_heading_is_kept(text: str) -> None:
    """Nothing of a text is lost that merely looks like a label at first."""
    assert await through(*text) == (text, text)


async def test_what_is_heard_is_what_is_kept() -> None:
    """Blanks around an answer are left out, those within it and before it are not."""
    heard, kept = await through(" \n", "One", " ", "two.\n\n", "Three.", "\n", " ", gap="\n\n")
    assert kept == "One two.\n\nThree."
    assert heard == "\n\n" + kept


class Clock:
    """A clock that is set by hand."""

    now = 1.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def begun(content: str = "b") -> Manuscript:
    """A text whose first piece is written and whose second is not."""
    return Manuscript(deque([Piece(" ", content)]), 50, [Passage("", ANSWER)])


def fresh() -> Manuscript:
    """A text of which nothing is written."""
    return Manuscript(deque([Piece("", "a"), Piece(" ", "b")]), 50)


def test_what_was_begun_is_gone_on_with_once() -> None:
    """A text whose writing broke off is there for the next who writes it, and for nobody else."""
    desk = Desk()
    with pytest.raises(ZeroDivisionError), desk.writing("k", begun()) as first:
        raise ZeroDivisionError
    with desk.writing("k", fresh()) as second:
        assert second is first
        with desk.writing("k", fresh()) as third:
            assert third is not first
        with desk.writing("other", fresh()) as fourth:
            assert not fourth.passages
        second.ahead.clear()
    with desk.writing("k", fresh()) as fifth:
        assert not fifth.passages


def test_what_was_begun_is_not_kept_for_ever() -> None:
    """After two hours it is gone, and the oldest goes first when there is too much of it."""
    clock = Clock()
    desk = Desk(clock)
    for key in ("old", "new", "newest"):
        with desk.writing(key, begun("x" * 3_900_000)):
            clock.now += 1
    with desk.writing("old", fresh()) as old, desk.writing("new", fresh()) as new:
        assert not old.passages
        assert new.passages
    clock.now += 2 * 3600 + 1
    with desk.writing("newest", fresh()) as newest:
        assert not newest.passages


def test_pieces_are_cut_smaller_once() -> None:
    """What is ahead is halved once, with nothing lost, and what is written stays."""
    text = "One two three four. " * 20
    manuscript = Manuscript(deque([Piece("\n\n", text.strip())]), 200, [Passage("", ANSWER)])
    assert manuscript.cut_smaller()
    assert len(manuscript.ahead) > 1
    assert "".join(piece.gap + piece.text for piece in manuscript.ahead) == f"\n\n{text.strip()}"
    assert manuscript.text == "Written."
    assert not manuscript.cut_smaller()
