import pytest
from reyna_word_count.processor import processor

from reyna.errors import Invalid, Permanent
from reyna.testing import attempt


async def test_words_of_enough_letters_are_counted():
    made = await attempt(processor, {"content": "So it goes on."}, settings={"shortest": 3})
    assert made.data == {"words": 2}


async def test_a_blank_text_is_refused():
    with pytest.raises(Permanent, match="no word"):
        await attempt(processor, {"content": " "})


async def test_settings_are_held_against_their_schema():
    with pytest.raises(Invalid):
        await attempt(processor, {"content": "So it goes."}, settings={"shortest": 0})
