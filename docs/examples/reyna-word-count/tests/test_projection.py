from reyna_word_count.projection import Words, counted, get_words, projection

from reyna.testing import History, given


async def test_a_user_sees_the_sum_of_what_is_not_in_the_trash():
    history = History()
    for number, owner in enumerate(["ann", "ann", "eve"]):
        history.derive(
            owner,
            f"count{number}",
            "word-count-v1",
            {"words": 10 + number},
            parent_id=f"text{number}",
            processor_id="word-count",
        )
    history.delete("ann", "count0", "word-count-v1")
    async with given(projection, history.records) as view:
        assert len(await view.rows(counted)) == 3
        assert await view.ask(get_words, "ann") == Words(texts=1, words=11)
        assert await view.ask(get_words, "bob") == Words(texts=0, words=0)
