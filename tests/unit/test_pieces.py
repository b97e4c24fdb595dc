"""Long texts are cut where a reader would pause, and nothing of them is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors._pieces import Piece, split, split_more, tokens_in

SENTENCE = "The harbour was quiet that day. "
WORDS = st.sampled_from(
    ["a", "boat", "sank.", "“Why?”", "\n", "\n\n", " \n ", "今日は晴れ。", "é", "7"]
)


def texts(pieces: list[Piece]) -> list[str]:
    """The pieces' texts."""
    return [piece.text for piece in pieces]


@given(st.lists(WORDS, min_size=1).map(" ".join), st.integers(5, 100))
def test_nothing_is_lost(text: str, size: int) -> None:
    """Gaps and pieces are together the text, each piece fits, and none has blanks around it."""
    pieces = split(text, size)
    assert "".join(piece.gap + piece.text for piece in pieces) == text.strip()
    for piece in pieces:
        assert tokens_in(piece.text) <= size
        assert piece.text == piece.text.strip()
        assert not piece.gap.strip()
    assert pieces[0].gap == ""


def test_a_short_text_is_one_piece() -> None:
    """What fits is not cut."""
    assert split(" A note.\n", 40) == [Piece("", "A note.")]


@pytest.mark.parametrize("gap", ["\n\n", "\n \n", "\n\n\n", "\n", " "])
def test_cuts_are_made_at_the_best_gap_near_the_middle(gap: str) -> None:
    """A paragraph's end is better than a line's, that better than a sentence's."""
    half = (SENTENCE * 4).strip()
    first, second = split(half + gap + half, tokens_in(half) + 1)
    assert (first.text, second.gap, second.text) == (half, gap, half)


def test_a_paragraph_is_better_than_the_middle() -> None:
    """A cut goes to the end of a paragraph, though a sentence ends nearer to the middle."""
    text = SENTENCE * 5 + "\n\n" + SENTENCE * 4
    assert texts(split(text, tokens_in(SENTENCE * 6))) == [
        (SENTENCE * 5).strip(),
        (SENTENCE * 4).strip(),
    ]


def test_no_sentence_is_cut_where_one_ends_nearby() -> None:
    """Every piece of running text ends with a sentence, abbreviations aside."""
    assert all(text.endswith("day.") for text in texts(split(SENTENCE * 50, 60)))


def test_a_text_without_blanks_is_cut_after_its_full_stops() -> None:
    """Japanese and Chinese sentences end without a blank, and a quotation with its mark."""
    pieces = texts(split("港は静かだった。「そう。」" * 20, 60))
    assert len(pieces) > 5
    assert all(text.endswith(("だった。", "。」")) for text in pieces)


def test_a_text_without_any_pause_is_cut_all_the_same() -> None:
    """One endless word comes in pieces too."""
    pieces = split("x" * 1000, 50)
    assert "".join(texts(pieces)) == "x" * 1000
    assert max(map(len, texts(pieces))) <= 150


def test_a_piece_keeps_its_gap_when_it_is_cut_again() -> None:
    """Smaller pieces are together the piece that they were."""
    piece = Piece("\n\n", SENTENCE.strip() + " " + SENTENCE.strip())
    first, second = split_more(piece, tokens_in(SENTENCE))
    assert first == Piece("\n\n", SENTENCE.strip())
    assert second == Piece(" ", SENTENCE.strip())


def test_the_estimate_is_on_the_safe_side() -> None:
    """It counts no fewer tokens than a tokenizer for English takes for English, digits, signs and
    Chinese.
    """
    assert tokens_in("The harbour was quiet that day.") >= 7
    assert tokens_in("3.14159") >= 7
    assert tokens_in("+=!") >= 3
    assert tokens_in("港口很安静。少了两条船水面上有雾。没有人说话。") >= 40
