"""What the OpenAPI document says of files: a form in, bytes out."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from litestar.openapi.spec import (
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    RequestBody,
    Schema,
)
from litestar.openapi.spec.encoding import Encoding
from litestar.openapi.spec.enums import OpenAPIType

from reyna.api.openapi import problem
from reyna.api.requests import Literal, any_json
from reyna.commands.requests import UploadMedia

_TEXT = Schema(type=OpenAPIType.STRING)
_BYTES: dict[str, object] = {"type": "string", "contentMediaType": "application/octet-stream"}


def _form() -> dict[str, object]:
    """The fields and the file. In a form, a list is a field that is given several times."""
    _, components = msgspec.json.schema_components([UploadMedia], schema_hook=any_json)
    schema = components[UploadMedia.__name__]
    file = {**_BYTES, "description": "The file, with its name and type. Exactly one."}
    fields = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema["properties"].items()
    }
    return {
        "type": "object",
        "title": UploadMedia.__name__,
        "description": schema["description"],
        "properties": {"file": file, **fields},
        "required": ["file"],
    }


@dataclass
class Upload(Operation):
    """POST blobs/media."""

    def __post_init__(self) -> None:
        """Say what its body is, and that it is not waited for without end."""
        self.request_body = RequestBody(
            content={
                "multipart/form-data": OpenAPIMediaType(
                    schema=Literal(_form()),
                    encoding={"metadata": Encoding(content_type="application/json")},
                )
            },
            required=True,
        )
        self.responses = {**(self.responses or {}), "408": problem(408)}


@dataclass
class Download(Operation):
    """GET blobs/{blob_id}/media."""

    def __post_init__(self) -> None:
        """Say what it answers, and to which headers."""
        bytes_ = {"*/*": OpenAPIMediaType(schema=Literal(_BYTES))}
        etag = {"ETag": OpenAPIHeader(schema=_TEXT, description="The SHA-256, in quotes.")}
        part = {"Content-Range": OpenAPIHeader(schema=_TEXT, description="Which of how many.")}
        self.responses = {
            "200": OpenAPIResponse(description="The whole file.", content=bytes_, headers={**etag}),
            "206": OpenAPIResponse(
                description="The range asked for.", content=bytes_, headers={**etag, **part}
            ),
            "304": OpenAPIResponse(description="You have these bytes already."),
            "416": problem(416),
        }
        asked = {
            "Range": "One range of bytes, for example bytes=0-1023.",
            "If-Range": "The ETag that the range is to be of; otherwise the whole is sent.",
            "If-None-Match": "The ETag of the bytes that you have.",
        }
        self.parameters = [
            *(self.parameters or []),
            *(
                Parameter(name=name, param_in="header", description=text, schema=_TEXT)
                for name, text in asked.items()
            ),
        ]
