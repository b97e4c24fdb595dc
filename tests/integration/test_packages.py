"""A studio does not start on what a package got wrong, and says what it is."""

from __future__ import annotations

from pathlib import Path

import pytest

import schemas as shipped
from reyna.content import Processor
from reyna.errors import SetupError
from reyna.testing import running_studio
from tests.writing import Writer


def brought(definition: bytes) -> list[shipped.Shipped]:
    """Our schemas and one of somebody else's."""
    return [*shipped.load(), shipped.Shipped("thing-v1", "thing", 1, "A thing.", definition)]


async def refusal(
    folder: Path, schemas: list[shipped.Shipped], processors: list[Processor] | None = None
) -> str:
    """Why a studio with these does not start."""
    with pytest.RaisesGroup(SetupError, flatten_subgroups=True) as refused:
        async with running_studio(folder, schemas=schemas, processors=processors or []):
            pass
    found: BaseException = refused.value
    while isinstance(found, BaseExceptionGroup):
        (found,) = found.exceptions
    return str(found)


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        (b'{"type": "thing"}', "/type"),
        (b'{"$schema": "https://json-schema.org/draft/2020-12/schema"}', "not of draft-07"),
        (b'{"$schema": "urn:mine"}', "none of the drafts"),
    ],
)
async def test_a_schema_that_is_none_is_named(tmp_path: Path, definition: bytes, said: str) -> None:
    """What a package ships is a schema of draft-07, or the start ends with its id and the place."""
    message = await refusal(tmp_path, brought(definition))
    assert "thing-v1" in message
    assert said in message


async def test_an_output_schema_that_nobody_ships_is_named(tmp_path: Path) -> None:
    """A processor whose results nobody could check is not started."""
    message = await refusal(tmp_path, shipped.load(), [Writer(output="nothing-v1")])
    assert "writer makes nothing-v1" in message


async def test_a_shipped_schema_is_there_and_never_edited(tmp_path: Path) -> None:
    """What a package ships is everybody's from the start on; another text under its id is refused
    at the next one.
    """
    async with (
        running_studio(tmp_path, schemas=brought(b'{"type": "string"}'), processors=[]) as studio,
        studio.signed_in() as client,
    ):
        assert (await client.schemas.get("thing-v1")).definition == {"type": "string"}
        await client.blobs.create("thing-v1", "A text.")
    assert "thing-v1 differs" in await refusal(tmp_path, brought(b'{"type": "number"}'))
