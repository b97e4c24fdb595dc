"""The client over HTTP, against a running studio: what it does so that its callers need not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
import pytest
import pytest_asyncio

from reyna.client import (
    BadRequest,
    Client,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    NotUnderstood,
    PreconditionFailed,
    Refused,
    Retry,
    TooLarge,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    Unreachable,
    pages,
)
from reyna.identity import tokens
from reyna.settings import Settings
from tests.proxy import Proxy
from tests.support import Studio, User, eventually, running_studio

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEXT = {"content": "rough"}
ONCE = Retry(tries=1)
QUICK = Retry(first_wait=0.01)


class Text(msgspec.Struct, omit_defaults=True):
    """What is in a text-input-v1."""

    content: str
    style: str | None = None


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    """One studio without processors for all tests here: each brings users of its own."""
    settings = Settings(sync="interval", wait_timeout=0.5)
    async with running_studio(tmp_path_factory.mktemp("client"), settings) as running:
        yield running


@pytest.fixture
def user(studio: Studio) -> User:
    """A fresh user."""
    return studio.user()


@pytest_asyncio.fixture(loop_scope="module")
async def client(studio: Studio, user: User) -> AsyncIterator[Client]:
    """The fresh user's client."""
    async with Client(studio.url, token=user.token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def proxy(studio: Studio) -> AsyncIterator[Proxy]:
    """A line to the studio that can be cut."""
    async with Proxy(urlsplit(studio.url).port or 0) as proxy:
        yield proxy


@asynccontextmanager
async def told(*answers: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that gives these answers in order; gives its URL and the requests it had."""
    asked: list[bytes] = []
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        said = left.pop(0)
        writer.write(said)
        # Nothing to say: silence until the client leaves.
        await (writer.drain() if said else reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


def answer(status: str, *headers: str, body: str = "{}") -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, "", body]).encode()


def account() -> dict[str, str]:
    """A new person's email address and password."""
    return {"email": f"{uuid4().hex}@example.com", "password": "correct horse"}


# ------------------------------------------------------------------ resources


async def test_a_blobs_life(client: Client) -> None:
    """A blob is made, read as a type, patched, put into the trash and taken out again."""
    bucket = await client.buckets.create("Diary")
    made = await client.blobs.create(
        "text-input-v1", Text("rough"), bucket_ids=[bucket.bucket_id], title="T", tags=["a"]
    )
    blob = await client.blobs.get(made.blob_id)
    assert blob.content(Text) == Text("rough")
    assert (blob.title, blob.tags, blob.bucket_ids) == ("T", ("a",), (bucket.bucket_id,))
    seq = await client.blobs.update(made.blob_id, title=None, data={"style": "dry"})
    blob = await client.blobs.get(made.blob_id)
    assert blob.content(Text) == Text("rough", "dry")
    assert (blob.title, blob.tags, blob.seq) == (None, ("a",), seq)
    await client.blobs.delete(made.blob_id, if_match=seq)
    assert [found async for found in client.blobs.list()] == []
    assert await client.blobs.restore(made.blob_id) == client.last_seq
    assert [found.blob_id async for found in client.blobs.list(tag="a")] == [made.blob_id]
    types = [event.type async for event in client.events(blob_id=made.blob_id)]
    assert types == ["blob.created", "blob.updated", "blob.deleted", "blob.restored"]


async def test_a_trees_life(client: Client) -> None:
    """Buckets are made, ordered, renamed, moved, deleted and restored, and seen as a tree."""
    book = await client.buckets.create("Book", "book")
    parts = [
        await client.buckets.create(name, "part", parent_bucket_id=book.bucket_id)
        for name in ("One", "Two")
    ]
    await client.buckets.move(parts[1].bucket_id, book.bucket_id, position=0)
    await client.buckets.update(parts[0].bucket_id, name="Last")
    (root,) = await client.buckets.tree()
    assert [part.name for part in root.children] == ["Two", "Last"]
    assert await client.buckets.subtree(book.bucket_id) == root
    children = client.buckets.list(parent_bucket_id=book.bucket_id)
    assert [part.position async for part in children] == [0, 1]
    await client.buckets.delete(parts[0].bucket_id)
    assert len((await client.buckets.get(book.bucket_id)).child_bucket_ids) == 1
    await client.buckets.restore(parts[0].bucket_id)
    await client.buckets.move(parts[0].bucket_id, None)
    assert [root.name for root in await client.buckets.tree()] == ["Book", "Last"]


async def test_a_schemas_life(client: Client) -> None:
    """A schema is registered, found, tried against data and a candidate, and deprecated."""
    definition = {"type": "object", "required": ["title"]}
    first = await client.schemas.register("recipe", definition, description="To cook.")
    assert first.schema_id == "recipe-v1"
    assert await client.schemas.get("recipe-v1") == await client.schemas.latest("recipe") == first
    validity = await client.schemas.validate("recipe", {})
    assert (validity.valid, [error.path for error in validity.errors]) == (False, ["/data"])
    report = await client.schemas.compatibility("recipe", {"required": ["title", "author"]})
    assert not report.compatible
    assert report.breaks
    assert (await client.schemas.status("recipe-v1", "deprecated")).status == "deprecated"
    assert [found.status async for found in client.schemas.list(name="recipe")] == ["deprecated"]


async def test_an_accounts_life(studio: Studio) -> None:
    """Whoever registers is signed in, can sign in again elsewhere, and is nobody after logout."""
    mine = account()
    async with Client(studio.url) as first, Client(studio.url) as second:
        with pytest.raises(Unauthorized):
            await first.account.get()
        granted = await first.register(**mine, name="Ada")
        assert (await second.login(**mine)).user_id == granted.user_id
        assert (await second.account.get()).name == "Ada"
        assert (await second.account.token()).user_id == granted.user_id
        await second.account.logout()
        with pytest.raises(Unauthorized):
            await second.account.get()
        assert (await first.account.get()).email == mine["email"]


async def test_lists_are_complete(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list gives everything once, in order, over as many pages as it takes."""
    made = [await client.blobs.create("text-input-v1", TEXT) for _ in range(23)]
    monkeypatch.setattr(pages, "PER_REQUEST", 5)
    ids = [one.blob_id for one in made]
    assert [blob.blob_id async for blob in client.blobs.list(sort="created_at")] == ids
    assert [event.blob_id async for event in client.events()] == ids
    page = await client.blobs.page(limit=20, sort="created_at")
    rest = await client.blobs.page(limit=20, sort="created_at", cursor=page.next_cursor)
    assert [blob.blob_id for blob in (*page.items, *rest.items)] == ids
    assert rest.next_cursor is None


async def test_own_writes_are_read(client: Client) -> None:
    """A query after a command shows what the command did, without being asked to wait."""
    for number in range(20):
        made = await client.buckets.create(str(number))
        assert (await client.buckets.get(made.bucket_id)).name == str(number)


async def test_waiting_for_writes_can_be_left_out(studio: Studio, user: User) -> None:
    """A query waits for a seq it is given; by itself it waits for none when it is told so."""
    never = 10**15
    async with Client(studio.url, token=user.token, retry=ONCE, read_your_writes=False) as client:
        with pytest.raises(Unavailable) as refused:
            await client.blobs.page(min_seq=never)
        assert refused.value.retry_after == 1
        await client.buckets.create("x")
        client._transport.last_seq = never
        await client.blobs.page()


# ------------------------------------------------------------------ refusals


Ask = Callable[[Client], Awaitable[object]]


async def _stale(client: Client) -> None:
    made = await client.blobs.create("text-input-v1", TEXT)
    await client.blobs.update(made.blob_id, title="x", if_match=made.seq)
    await client.blobs.update(made.blob_id, title="y", if_match=made.seq)


async def _not_in_the_trash(client: Client) -> None:
    made = await client.blobs.create("text-input-v1", TEXT)
    await client.blobs.restore(made.blob_id)


async def _other_body(client: Client) -> None:
    for content in "ab":
        await client.blobs.create("text-input-v1", {"content": content}, idempotency_key="k")


@pytest.mark.parametrize(
    ("status", "kind", "ask"),
    [
        (400, BadRequest, lambda client: client.blobs.page(cursor="made up")),
        (403, Forbidden, lambda client: client.schemas.status("text-input-v1", "deprecated")),
        (404, NotFound, lambda client: client.blobs.get("0" * 32)),
        (409, Conflict, _not_in_the_trash),
        (412, PreconditionFailed, _stale),
        (413, TooLarge, lambda c: c.blobs.create("text-input-v1", {"content": "x" * 2**21})),
        (422, Invalid, lambda client: client.blobs.create("text-input-v1", {"content": 7})),
        (422, Invalid, _other_body),
    ],
)
async def test_a_refusal_is_its_exception(
    client: Client, status: int, kind: type[Refused], ask: Ask
) -> None:
    """What the server refuses is raised as the kind of its status, with the problem."""
    with pytest.raises(kind) as refused:
        await ask(client)
    assert type(refused.value) is kind
    assert refused.value.problem.status == status
    assert refused.value.problem.detail in str(refused.value)


async def test_an_invalid_body_names_its_places(client: Client) -> None:
    """Invalid carries the JSON Pointers of the problem."""
    with pytest.raises(Invalid) as refused:
        await client.blobs.create("text-input-v1", {"content": 7})
    assert [(error.path, error.keyword) for error in refused.value.errors] == [
        ("/data/content", "type")
    ]


async def test_a_bad_token_is_unauthorized(studio: Studio) -> None:
    """A token that is not valid, and cannot be renewed, is told at once."""
    async with Client(studio.url, token="x") as client:
        with pytest.raises(Unauthorized):
            await client.blobs.page()


@pytest.mark.parametrize("entity_id", ["", "..", "a/b", "a?b", "a b", "x" * 129])
async def test_what_cannot_be_an_id_is_not_sent(client: Client, entity_id: str) -> None:
    """An id that would be another path is refused before it leaves."""
    with pytest.raises(ValueError, match="cannot be an id"):
        await client.blobs.get(entity_id)


async def test_nobody_there_is_unreachable() -> None:
    """Where nothing listens, the one error of the network is raised, after some tries."""
    async with Client("http://127.0.0.1:1", retry=QUICK) as client:
        with pytest.raises(Unreachable):
            await client.account.token()


async def test_silence_is_unreachable() -> None:
    """A server that takes a request and says nothing is given up after the timeout."""
    async with told(b"") as (url, asked):
        async with Client(url, timeout=0.2, retry=ONCE) as client:
            with pytest.raises(Unreachable):
                await client.account.token()
        assert len(asked) == 1


async def test_what_is_no_studio_is_not_understood() -> None:
    """A success that says something else is an error of its own kind."""
    async with told(answer("200 OK", body="<html>")) as (url, _), Client(url) as client:
        with pytest.raises(NotUnderstood):
            await client.account.token()


# ------------------------------------------------------------------ tries


async def test_retry_after_is_honoured() -> None:
    """429 and 503 are tried again; a wait that is too long is left to the caller."""
    status = '{"user_id": "u", "expires_at": "t"}'
    answers = [
        answer("503 Service Unavailable", "Retry-After: 0", body="busy"),
        answer("429 Too Many Requests", "Retry-After: 0"),
        answer("502 Bad Gateway"),
        answer("200 OK", body=status),
        answer("429 Too Many Requests", "Retry-After: 3600"),
    ]
    async with told(*answers) as (url, asked), Client(url, retry=QUICK) as client:
        assert (await client.account.token()).user_id == "u"
        assert len(asked) == 4
        with pytest.raises(TooManyRequests) as refused:
            await client.account.token()
        assert refused.value.retry_after == 3600


async def test_only_what_can_be_repeated_is_repeated() -> None:
    """A conditional change whose fate is unknown is not tried again; a keyed one is, by one key."""
    busy = answer("503 Service Unavailable", "Retry-After: 0")
    gone = answer("404 Not Found")
    async with told(busy, busy, gone) as (url, asked), Client(url, retry=QUICK) as client:
        with pytest.raises(Unavailable):
            await client.blobs.update("b", title="x", if_match=1)
        assert len(asked) == 1
        with pytest.raises(NotFound):
            await client.blobs.create("text-input-v1", TEXT)
        keys = {line for head in asked[1:] for line in head.splitlines() if b"dempotency" in line}
        assert (len(asked), len(keys)) == (3, 1)


async def test_a_lost_answer_writes_once(proxy: Proxy, client: Client, user: User) -> None:
    """A command whose answer is lost on the way is tried again, and is in the log once."""
    async with Client(proxy.http_url, token=user.token, retry=QUICK) as cut_off:
        await cut_off.account.token()
        proxy.cut_at_answer()
        made = await cut_off.blobs.create("text-input-v1", TEXT)
        assert proxy.cut.is_set()
        assert [event.seq async for event in client.events()] == [made.seq]
        proxy.cut_at_answer()
        await cut_off.blobs.update(made.blob_id, title="x")
        proxy.cut_at_answer()
        await cut_off.blobs.delete(made.blob_id)
    types = [event.type async for event in client.events()]
    assert types == ["blob.created", "blob.updated", "blob.deleted"]


class Watching(Retry, frozen=True):
    """Tells of a failure before it is waited for."""

    failed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    def wait(self, failed: int, asked: float | None) -> float | None:
        """As ever."""
        self.failed.set()
        return super().wait(failed, asked)


async def test_a_503_is_tried_again_and_writes_once(studio: Studio, user: User) -> None:
    """Commands that are 503 while the log is silent come true when it speaks again, each once."""
    retry = Watching()
    async with Client(studio.url, token=user.token, retry=retry) as client:
        await client.buckets.create("x")
        studio.signal_nats(signal.SIGSTOP)
        try:
            async with asyncio.TaskGroup() as tasks:
                writing = [
                    tasks.create_task(client.blobs.create("text-input-v1", TEXT)) for _ in range(9)
                ]
                await retry.failed.wait()
                studio.signal_nats(signal.SIGCONT)
        finally:
            studio.signal_nats(signal.SIGCONT)
        made = sorted(task.result().seq for task in writing)
        assert [event.seq async for event in client.events(types=["blob.created"])] == made


# ------------------------------------------------------------------ tokens


@pytest_asyncio.fixture(loop_scope="module")
async def member(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """A signed-in client whose access tokens live two seconds."""
    monkeypatch.setattr(tokens, "ACCESS_LIFETIME", 2)
    async with Client(studio.url) as client:
        await client.register(**account(), name="Ada")
        yield client


async def test_many_tasks_renew_a_token_once(member: Client) -> None:
    """While tokens expire under many tasks, each refresh token is spent once and none fails."""
    seen: list[str | None] = [member.refresh_token]

    async def ask() -> None:
        while len(seen) < 3:
            await member.account.token()
            if member.refresh_token != seen[-1]:
                seen.append(member.refresh_token)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(ask())
    # A refresh token that was spent twice would have ended the session.
    assert (await member.account.get()).name == "Ada"


async def test_a_cancelled_caller_wastes_no_refresh_token(member: Client) -> None:
    """Who is cancelled while a token is renewed leaves the new one to the others."""
    first = member.refresh_token
    member._transport.session.renew_at = 0.0
    asking = asyncio.create_task(member.account.token())
    # It has begun to renew when it waits for the first time.
    await asyncio.sleep(0)
    assert member._transport.session._renewing is not None
    asking.cancel()

    async def renewed() -> bool:
        return member.refresh_token != first

    await eventually(renewed)
    assert asking.cancelled()
    assert (await member.account.get()).name == "Ada"


async def test_a_spent_refresh_token_ends_the_session(studio: Studio, member: Client) -> None:
    """A refresh token that was spent elsewhere is Unauthorized, and is not sent again."""
    spent = member.refresh_token
    async with Client(studio.url, refresh_token=spent) as elsewhere:
        assert (await elsewhere.account.get()).name == "Ada"
        assert elsewhere.refresh_token != spent
        member._transport.session.renew_at = 0.0
        with pytest.raises(Unauthorized):
            await member.account.get()
        assert member.refresh_token is None
