"""The style analysis in a running studio, and at texts that are not meant well."""

from __future__ import annotations

from pathlib import Path

import pytest

from processors.style_analysis import StyleAnalysis
from reyna.errors import Permanent
from reyna.testing import attempt, derived_from, running_studio
from tests.writing import Writer

TEXT = {"content": "The harbour at dawn was lovely. By noon it was all gone."}


async def test_what_is_written_and_what_is_written_out_is_analysed(tmp_path: Path) -> None:
    """Once it is on, a text is analysed, and so is what another processor makes of it; the results
    hang where they belong.
    """
    async with (
        running_studio(tmp_path, processors=[Writer(), StyleAnalysis()]) as studio,
        studio.signed_in() as client,
    ):
        await client.processors.set_up("style-analysis", active=True)
        text = await client.blobs.create("text-input-v1", TEXT)
        ours = await derived_from(client, text.blob_id, "style-analysis")
        written_out = await derived_from(client, text.blob_id, "writer")
        theirs = await derived_from(client, written_out.blob_id, "style-analysis")
        assert ours.schema_id == theirs.schema_id == "style-analysis-v1"
        assert ours.data["words"] == pytest.approx(
            {"count": 12, "different": 11, "long": 1, "letters_mean": 3.67, "syllables_mean": 1.25},
            abs=0.3,
        )
        assert theirs.data["sentences"]["count"] == 1


async def test_both_schemas_are_taken_by_hand_and_by_backfills(tmp_path: Path) -> None:
    """A backfill of a schema goes through the blobs of that one alone, and takes each that the
    processor reads.
    """
    async with (
        running_studio(tmp_path, processors=[Writer(), StyleAnalysis()]) as studio,
        studio.signed_in() as client,
    ):
        text = await client.blobs.create("text-input-v1", TEXT)
        written_out = await derived_from(client, text.blob_id, "writer")
        await client.processors.run("style-analysis", schema_id="expanded-text-v1")
        made = await derived_from(client, written_out.blob_id, "style-analysis")
        assert made.parent_id == written_out.blob_id
        sources = [run.blob_id async for run in client.processors.runs("style-analysis")]
        assert text.blob_id not in sources


async def test_a_text_that_takes_too_long_is_given_up() -> None:
    """When its time is up the process ends, and the writer is told; another text is counted."""
    hostile = {"content": "\u201c" * 400_000}
    with pytest.raises(Permanent, match=r"cannot be counted in 0\.5 s"):
        await attempt(StyleAnalysis(deadline=0.5), hostile)
    assert await attempt(StyleAnalysis(), TEXT)


async def test_an_expanded_text_is_read_and_its_language_chosen() -> None:
    """Of an expanded text what was written out counts; the language is the user's to set."""
    data = {"original": "x", "expanded": "Das Meer ist still. Es wird Tag.", "expansion_ratio": 9}
    found = await attempt(
        StyleAnalysis(), data, schema_id="expanded-text-v1", settings={"language": "de"}, title="T"
    )
    assert found.derived.title == "T"
    assert found.derived.seconds is not None
    assert isinstance(found.data, dict)
    assert (found.data["language"], found.data["sentences"]["count"]) == ("de", 2)
    assert found.data["tone"] is None


async def test_a_text_without_words_fails_for_good() -> None:
    """There is nothing to try again where there is no word."""
    with pytest.raises(Permanent, match="no word of the language en"):
        await attempt(StyleAnalysis(), {"content": "12 — !"})
