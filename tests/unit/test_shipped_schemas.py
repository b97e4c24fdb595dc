"""The schemas that ship, held against the draft they name and the contract."""

from __future__ import annotations

import jsonschema_rs
import msgspec
import pytest

import schemas
from reyna.domain.blob import Media

FILE = msgspec.to_builtins(
    Media(file_name="a.png", content_type="image/png", bytes=0, sha256="0" * 64)
)
DRAFT = "http://json-schema.org/draft-07/schema#"
SHIPPED = {one.schema_id: one for one in schemas.load()}

PROMISED = {
    "blob-v1": (
        "blob_id user_id processor_id schema_id data title tags metadata bucket_ids parent_id"
        " derived_ids stale provenance media seq created_at updated_at"
    ),
    "bucket-v1": (
        "bucket_id user_id name type parent_bucket_id child_bucket_ids blob_count metadata tags"
        " position depth seq created_at updated_at"
    ),
    "embedding-v1": "model dimensions vector text_sha256",
    "expanded-text-v1": "original expanded expansion_ratio",
    "manuscript-v1": ("bucket_id title author language seq words chapters files other_scripts"),
    "media-v1": "file_name content_type bytes sha256",
    "message-v1": "content sender_id reply_to mentions attachments reactions",
    "text-input-v1": "content style",
}


class Head(msgspec.Struct, rename={"draft": "$schema", "open_": "additionalProperties"}):
    """What each of the files says of itself."""

    draft: str
    title: str
    description: str
    type: str
    required: list[str]
    properties: dict[str, msgspec.Raw]
    open_: bool = True


def _head(schema_id: str) -> Head:
    return msgspec.json.decode(SHIPPED[schema_id].definition, type=Head)


def test_the_promised_schemas_ship() -> None:
    """The schemas of the contract and that of files ship; all come in the order of their ids."""
    assert list(SHIPPED) == sorted({*PROMISED, *SHIPPED})


@pytest.mark.parametrize("schema_id", SHIPPED)
def test_a_shipped_schema_is_valid_under_the_draft_that_it_names(schema_id: str) -> None:
    """Each file names draft-07 and is a schema under it."""
    assert _head(schema_id).draft == DRAFT
    jsonschema_rs.meta.validate(msgspec.json.decode(SHIPPED[schema_id].definition))


@pytest.mark.parametrize("schema_id", PROMISED)
def test_a_shipped_schema_has_the_promised_fields_and_stays_open(schema_id: str) -> None:
    """Each has the contract's fields, describes itself, and lets unknown fields through."""
    head = _head(schema_id)
    assert set(head.properties) == set(PROMISED[schema_id].split())
    assert head.type == "object"
    assert head.open_
    assert head.title
    assert head.description == SHIPPED[schema_id].description


@pytest.mark.parametrize("schema_id", PROMISED)
def test_an_id_is_made_of_name_and_version(schema_id: str) -> None:
    """The id, the name and the version of a shipped schema agree."""
    shipped = SHIPPED[schema_id]
    assert f"{shipped.name}-v{shipped.version}" == schema_id


@pytest.mark.parametrize(
    ("schema_id", "data", "valid"),
    [
        ("text-input-v1", {"content": "A note."}, True),
        ("text-input-v1", {"content": "A note.", "style": "dry", "mood": 3}, True),
        ("text-input-v1", {"style": "dry"}, False),
        ("text-input-v1", {"content": 3}, False),
        ("text-input-v1", {"content": "A note.", "style": None}, False),
        ("expanded-text-v1", {"original": "a", "expanded": "ab", "expansion_ratio": 2}, True),
        ("expanded-text-v1", {"original": "a", "expanded": "ab"}, False),
        ("expanded-text-v1", {"original": "a", "expanded": "ab", "expansion_ratio": "2"}, False),
        ("media-v1", FILE, True),
        ("media-v1", FILE | {"bytes": -1}, False),
        ("media-v1", FILE | {"sha256": "0" * 63}, False),
        ("media-v1", FILE | {"file_name": ""}, False),
        ("message-v1", {"content": "x" * 10_000, "sender_id": "u1"}, True),
        ("message-v1", {"content": "x" * 10_001, "sender_id": "u1"}, False),
        ("message-v1", {"content": "Hello."}, False),
        ("message-v1", {"content": "Hello.", "sender_id": "u1", "mentions": "u2"}, False),
    ],
)
def test_data_is_valid_as_the_contract_says(schema_id: str, data: object, valid: bool) -> None:
    """Required fields, types and lengths are those of the contract."""
    validator = jsonschema_rs.validator_for(msgspec.json.decode(SHIPPED[schema_id].definition))
    assert validator.is_valid(data) is valid
