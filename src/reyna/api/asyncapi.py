"""The AsyncAPI 3 document: the live socket and the NATS topics, made from the types that are used.

Owns the document alone; OpenAPI is Litestar's. Served at `/asyncapi.json`.
"""

from __future__ import annotations

from typing import get_args

import msgspec
from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Response

from reyna import __version__
from reyna.api import live_frames as frames
from reyna.domain.catalog import EVENTS
from reyna.domain.event import Event, Meta
from reyna.log.progress import Progress
from reyna.runtime.frames import EventFrame

_SERVER_FRAMES: tuple[type[msgspec.Struct], ...] = (
    frames.Subscribed,
    EventFrame,
    frames.Live,
    frames.Ack,
    Progress,
    frames.ErrorFrame,
    frames.Pong,
)
_COMPONENT = "#/components/schemas/{name}"

Json = dict[str, object]


def document() -> Json:
    """The whole document."""
    client = tuple(get_args(frames.ClientFrame))
    described = (*client, *_SERVER_FRAMES, *EVENTS.values(), Meta)
    _, schemas = msgspec.json.schema_components(
        described, schema_hook=_schema_of, ref_template=_COMPONENT
    )
    topics = {topic_of(event): event for event in EVENTS.values()}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ReYNa Studio",
            "version": __version__,
            "description": "The live socket, and the topics that the log is republished to.",
        },
        "channels": {
            "live": {
                "address": "/api/v1/ws",
                "description": "JSON text frames; subprotocols `reyna.v1`, `bearer.<token>`.",
                "messages": {one.__name__: _message(one) for one in (*client, *_SERVER_FRAMES)},
            }
        }
        | {
            topic: {
                "address": topic,
                "description": (event.__doc__ or "").strip().splitlines()[0],
                "parameters": _parameters(event),
                "messages": {event.__name__: _message(event)},
            }
            for topic, event in topics.items()
        },
        "operations": {
            "say": {"action": "receive", "channel": {"$ref": "#/channels/live"}}
            | _messages("live", client),
            "hear": {"action": "send", "channel": {"$ref": "#/channels/live"}}
            | _messages("live", _SERVER_FRAMES),
        },
        "components": {"schemas": schemas},
    }


def topic_of(event: type[Event]) -> str:
    """The public topic of an event type, with its qualifier as a parameter."""
    qualifier = f".{{{event.QUALIFIER}}}" if event.QUALIFIER else ""
    return f"{event.KIND}.{event.VERB}{qualifier}"


def routes() -> list[HTTPRouteHandler]:
    """GET /asyncapi.json."""
    encoded = msgspec.json.encode(document())

    @get("/asyncapi.json", include_in_schema=False, sync_to_thread=False)
    def asyncapi() -> Response[bytes]:
        """The AsyncAPI document."""
        return Response(encoded, media_type="application/json")

    return [asyncapi]


def _schema_of(kind: type) -> Json:
    """What is any JSON to us: `object`, and content that is passed on as it stands."""
    return {"description": "One of the events." if kind is Event else "Any JSON."}


def _message(kind: type) -> Json:
    return {"payload": {"$ref": _COMPONENT.format(name=kind.__name__)}}


def _messages(channel: str, kinds: tuple[type, ...]) -> Json:
    return {
        "messages": [{"$ref": f"#/channels/{channel}/messages/{kind.__name__}"} for kind in kinds]
    }


def _parameters(event: type[Event]) -> Json:
    if not event.QUALIFIER:
        return {}
    return {event.QUALIFIER: {"description": f"The event's {event.QUALIFIER}."}}
