from reyna_word_count.projection import Words

from reyna.testing import derived_from


async def test_a_text_is_counted_and_the_view_knows(writer):
    await writer.processors.set_up("word-count", active=True, settings={"shortest": 2})
    text = await writer.blobs.create("text-input-v1", {"content": "I saw a whale."})
    count = await derived_from(writer, text.blob_id, "word-count")
    assert count.data == {"words": 2}
    assert await writer.query("/words", Words, min_seq=count.seq) == Words(texts=1, words=2)
