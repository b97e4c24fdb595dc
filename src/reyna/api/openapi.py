"""The OpenAPI 3.1 document's common part: problems, security, headers. Routes say the rest.

Served at `/openapi/openapi.json`.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import msgspec
from litestar.openapi.spec import (
    OpenAPI,
    OpenAPIMediaType,
    OpenAPIResponse,
    Operation,
    Parameter,
    Reference,
    Schema,
    SecurityScheme,
)
from litestar.openapi.spec.enums import OpenAPIType

from reyna.api.problems import MEDIA_TYPE, Problem
from reyna.api.requests import Literal
from reyna.api.security import API, PUBLIC

BEARER = "bearer"
_COMPONENT = "#/components/schemas/{name}"
_QUERY_PROBLEMS = (400, 401, 404, 503)
_COMMAND_PROBLEMS = (400, 401, 404, 409, 412, 413, 422, 429, 503)
# Parameters of queries that may be well-formed and still break a rule.
_RULED = frozenset({"at", "q"})
# Those that may ask for what the state does not allow.
_COMPARED = "similar_to"
# POSTs that change what is there, and can be made conditional like a PATCH.
_CONDITIONAL_POSTS = ("/move", "/revert")


def complete(document: OpenAPI) -> None:
    """Write into the document what holds for all routes alike."""
    components = document.components
    components.security_schemes = {
        BEARER: SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")
    }
    _, described = msgspec.json.schema_components([Problem], ref_template=_COMPONENT)
    components.schemas = {
        **(components.schemas or {}),
        **{name: Literal(schema) for name, schema in described.items()},
    }
    for path, method, operation in _operations(document):
        if path.startswith(API):
            _complete(operation, method, path)


def _operations(document: OpenAPI) -> Iterator[tuple[str, str, Operation]]:
    for path, item in (document.paths or {}).items():
        for method in ("get", "post", "put", "patch", "delete"):
            operation = getattr(item, method)
            if operation is not None:
                yield path, method, operation


def _complete(operation: Operation, method: str, path: str) -> None:
    reads, public = method == "get", path.startswith(PUBLIC)
    operation.security = [] if public else [{BEARER: []}]
    responses = operation.responses or {}
    for status in _query_problems(operation) if reads else _COMMAND_PROBLEMS:
        responses[str(status)] = problem(status)
    operation.responses = responses
    if public:
        return
    headers: list[Parameter] = []
    if reads:
        headers.append(_header("Reyna-Min-Seq", "Wait until the view has reached this seq."))
    if method == "post":
        again = "The same key and body give the first answer again."
        headers.append(_header("Idempotency-Key", again))
    if method in {"put", "patch", "delete"} or path.endswith(_CONDITIONAL_POSTS):
        headers.append(_header("If-Match", "The ETag that the resource must still have."))
    operation.parameters = [*(operation.parameters or []), *headers]


def problem(status: int) -> OpenAPIResponse:
    """The answer of a status that is a problem."""
    reference = Reference(ref=_COMPONENT.format(name=Problem.__name__))
    return OpenAPIResponse(
        description=HTTPStatus(status).phrase,
        content={MEDIA_TYPE: OpenAPIMediaType(schema=reference)},
    )


def _query_problems(operation: Operation) -> tuple[int, ...]:
    names = {one.name for one in operation.parameters or () if isinstance(one, Parameter)}
    ruled = (422,) if names & _RULED else ()
    return (*_QUERY_PROBLEMS, *((409,) if _COMPARED in names else ()), *ruled)


def _header(name: str, description: str) -> Parameter:
    return Parameter(
        name=name,
        param_in="header",
        description=description,
        required=False,
        schema=Schema(type=OpenAPIType.STRING),
    )
