"""The client without a studio: what it loads, how it waits, how it wraps a file."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.utils import format_datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reyna.client import Client, Retry, Stream
from reyna.client.answers import _retry_after
from reyna.client.media import _form
from reyna.client.model import Blob, Event

SERVER = {"litestar", "sqlalchemy", "nats", "uvicorn", "eventsourcing", "jsonschema_rs", "openai"}


def test_importing_it_loads_nothing_of_the_server() -> None:
    """Neither the server's libraries nor any other room of ours comes with the client."""
    script = "import reyna.client, sys; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", script], text=True).split())
    assert not SERVER & loaded
    ours = {name for name in loaded if name.split(".")[0] == "reyna"}
    assert {name for name in ours if not name.startswith("reyna.client")} == {"reyna"}


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "localhost"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """An address without http or https is refused before anything is asked of it."""
    with pytest.raises(ValueError, match="is not the address"):
        Client(url)


@given(failed=st.integers(1, 5), asked=st.none() | st.floats(0, 10))
def test_waits_are_at_least_what_is_asked_for_and_bounded(failed: int, asked: float | None) -> None:
    """A wait is never shorter than Retry-After, and never longer than that and the bound."""
    retry = Retry(tries=6, longest_wait=10.0)
    wait = retry.wait(failed, asked)
    assert wait is not None
    assert (asked or 0.0) <= wait <= (asked or 0.0) + retry.longest_wait


def test_there_is_an_end_of_trying() -> None:
    """After the last try, or asked to wait too long, no wait is worth it."""
    assert Retry(tries=3).wait(3, None) is None
    assert Retry(longest_wait=10.0).wait(1, 11.0) is None


def test_retry_after_is_seconds_or_a_date() -> None:
    """Both forms of Retry-After are understood, and anything else is as if it were not there."""
    assert _retry_after("7") == 7.0
    soon = _retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert soon is not None
    assert 3500 < soon <= 3600
    assert _retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert [_retry_after(value) for value in ("", "soon", "-1", "\u0661")] == [None] * 4


def parts_of(content_type: str, body: bytes) -> list[Message]:
    """The parts of a multipart form."""
    whole = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [part for part in whole.walk() if not part.is_multipart()]


@given(content=st.binary(), title=st.text(st.characters(codec="utf-8", exclude_characters="\r\n")))
def test_a_form_around_a_file_is_a_multipart_form(content: bytes, title: str) -> None:
    """Fields and file stand in the form as they are, whatever the bytes of the file."""
    content_type, before, after = _form({"title": title}, "a.bin", "application/x-test")
    field, file = parts_of(content_type, before + content + after)
    assert field.get_payload(decode=True) == title.encode()
    assert file.get_content_type() == "application/x-test"
    assert file.get_filename() == "a.bin"
    assert (before + content + after).count(content) >= 1


def test_a_file_name_cannot_leave_its_place() -> None:
    """Quotes and line breaks in a file's name make no other header of it."""
    content_type, before, after = _form({}, 'a"\r\nX-Evil: 1\r\n\r\nb', "text/plain")
    (file,) = parts_of(content_type, before + b"x" + after)
    assert file["X-Evil"] is None
    assert file.get_payload(decode=True) == b"x"


def test_what_a_newer_server_adds_is_passed_over() -> None:
    """Unknown fields of an answer are no error."""
    event = {"type": "t", "seq": 1, "time": "t", "user_id": "u", "data": {"a": 1}, "new": {}}
    assert msgspec.json.decode(msgspec.json.encode(event), type=Event).data == {"a": 1}
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"blob_id": "b"}', type=Blob)


async def test_a_closed_stream_is_empty() -> None:
    """A stream that was closed before it began connects to nothing and tells nothing."""
    async with Client("http://127.0.0.1:1") as client:
        stream: Stream = client.stream()
        await stream.aclose()
        assert [event async for event in stream] == []
        assert [item async for item in stream.items()] == []
