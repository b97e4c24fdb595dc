"""Proving live views: which tables and whose rows differ, who may ask, and what that may cost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from projections.content import Content
from projections.content import projection as content
from projections.content.tables import blobs
from reyna.content import Tx
from reyna.database import open_engine, writing
from reyna.domain.blob import BlobCreated
from reyna.log.record import Record
from reyna.log.stream import Log
from reyna.runtime.projector import Projector
from reyna.runtime.proof import Digest, TableProof, UserProof, compare, conclude
from reyna.runtime.replay import Replay
from reyna.runtime.views import Views
from tests.events import SCHEMA, bucket_created, draft, of_blob, of_tree
from tests.support import eventually, make_blob, problem, running_studio

OWNERS = ("ann", "bob", "cat")


class Halting(Content):
    """The view of contents, whose rebuilds stop and say so."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.left = asyncio.Event()

    async def apply(self, tx: Tx, records: Sequence[Record]) -> None:
        """Fold a batch; in a rebuild, never."""
        if tx[blobs].name != blobs.name:
            self.arrived.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.left.set()
        await super().apply(tx, records)


@pytest.fixture
async def engine(any_database: str) -> AsyncIterator[AsyncEngine]:
    """An engine on an empty database."""
    engine = open_engine(any_database)
    yield engine
    await engine.dispose()


@pytest.fixture
async def views(engine: AsyncEngine, log: Log) -> Views:
    """The view of contents with a bucket and two tagged blobs of each owner's."""
    views = Views(engine, log.epoch, wait_timeout=30)
    await views.prepare([content])
    for owner in OWNERS:
        await log.append([draft(owner, f"k-{owner}", bucket_created())], of_tree(0, owner))
        for number in (1, 2):
            blob_id = f"b{number}-{owner}"
            event = BlobCreated(
                schema_id=SCHEMA,
                data=msgspec.Raw(b'{"content":"x"}'),
                bucket_ids=(f"k-{owner}",),
                tags=("red",),
            )
            await log.append([draft(owner, blob_id, event)], of_blob(0, owner, blob_id))
    async with asyncio.TaskGroup() as tasks:
        projecting = tasks.create_task(Projector(log.connection, views, [content]).run())
        await views.reached(content, await log.head())
        projecting.cancel()
    return views


async def proofs(log: Log, views: Views) -> list[TableProof]:
    """The proofs of the tables, made gently."""
    return await Replay(log, views).verify([content], lambda _, __: None, gently=True)


async def test_every_row_is_proven_as_its_owners(log: Log, views: Views) -> None:
    """Each table of contents but the text index is hashed for each user, and all are the same."""
    found = await proofs(log, views)
    assert {one.table: (one.rows, one.users, one.users_differing) for one in found} == {
        "blob_versions": (6, 3, 0),
        "blob_tags": (6, 3, 0),
        "blob_filings": (6, 3, 0),
        "bucket_fills": (6, 3, 0),
        "bucket_versions": (3, 3, 0),
        "blob_texts": (6, 0, 0),
    }
    proof = conclude(found)
    assert (proof.same, proof.position) == (True, await log.head())
    assert proof.different == proof.users_differing == []


@pytest.mark.parametrize(
    ("statement", "table", "users"),
    [
        (
            "UPDATE blob_versions SET deleted = (1 = 1) WHERE user_id = 'bob'",
            "blob_versions",
            "bob",
        ),
        ("UPDATE blob_filings SET place = 7 WHERE blob_id = 'b2-cat'", "blob_filings", "cat"),
        ("DELETE FROM blob_tags WHERE user_id = 'ann'", "blob_tags", "ann"),
        ("UPDATE blob_tags SET user_id = 'eve' WHERE user_id = 'ann'", "blob_tags", "ann eve"),
    ],
)
async def test_a_forged_row_is_its_owners_alone(
    log: Log, views: Views, engine: AsyncEngine, statement: str, table: str, users: str
) -> None:
    """What differs is named by table and user; the others' rows are the same."""
    async with writing(engine) as connection:
        await connection.execute(text(statement))
    proof = conclude(await proofs(log, views))
    assert (proof.same, proof.different, proof.users_differing) == (False, [table], users.split())
    (forged,) = (one for one in proof.tables if not one.same)
    assert forged.users_differing == len(users.split())
    assert all(one.live != one.rebuilt for one in forged.differing)


async def test_a_users_hash_is_not_moved_by_anothers_rows(
    log: Log, views: Views, engine: AsyncEngine
) -> None:
    """Whatever stands beside them, the same rows have the same hash."""
    (before,) = (one for one in await proofs(log, views) if one.table == "blob_tags")
    async with writing(engine) as connection:
        await connection.execute(text("DELETE FROM blob_tags WHERE user_id = 'bob'"))
    (after,) = (one for one in await proofs(log, views) if one.table == "blob_tags")
    assert (after.live == before.live, after.rebuilt == before.rebuilt) == (False, True)
    (bob,) = after.differing
    assert (bob.user_id, bob.live, bob.rebuilt is None) == ("bob", None, False)


def test_a_proof_names_some_users_and_counts_all() -> None:
    """However many users differ, a proof stays short."""
    live = digest_of({f"u{number:05}": b"x" for number in range(5000)})
    found = compare("content", "blobs", 7, live, digest_of({}))
    assert (found.users, found.users_differing, len(found.differing)) == (5000, 5000, 1000)
    assert found.differing[0] == UserProof("u00000", b"x".hex(), None)


async def test_an_admin_has_the_views_proven(tmp_path: Path) -> None:
    """GET health/proof answers an admin with every table; nobody else is answered."""
    async with running_studio(tmp_path) as studio:
        async with studio.client(studio.user().token) as client:
            seq = (await make_blob(client))["seq"]
            problem(await client.get("/health/proof"), 403)
        async with studio.client() as nobody:
            problem(await nobody.get("/health/proof"), 401)
        async with studio.client(studio.user("admin").token) as admin:
            answer = await admin.get("/health/proof", headers={"Reyna-Min-Seq": str(seq)})
            assert answer.status_code == 200
            assert int(answer.headers["reyna-seq"]) >= seq
            proof = answer.json()
            assert (proof["same"], proof["different"], proof["users_differing"]) == (True, [], [])
            assert {"blob_versions", "runs", "schemas"} <= {one["table"] for one in proof["tables"]}
            document = (await admin.get(f"{studio.url}/openapi/openapi.json")).json()
        told = document["paths"]["/api/v1/health/proof"]["get"]["responses"]
        assert {"200", "403", "429"} <= set(told)


async def test_one_proof_at_a_time_given_up_with_its_caller(tmp_path: Path) -> None:
    """A second one is refused with a time to ask again; when the caller leaves, the work ends."""
    part = Halting()
    async with running_studio(tmp_path, projections=[part]) as studio:
        async with studio.client(studio.user().token) as client:
            seq = (await make_blob(client))["seq"]
        admin = studio.user("admin").token
        async with studio.client(admin) as first, studio.client(admin) as second:
            asked = asyncio.create_task(
                first.get("/health/proof", headers={"Reyna-Min-Seq": str(seq)})
            )
            await part.arrived.wait()
            refused = await second.get("/health/proof")
            problem(refused, 429)
            assert int(refused.headers["retry-after"]) > 0
            answer = await second.get("/blobs", headers={"Reyna-Min-Seq": str(seq)})
            assert len(answer.json()["items"]) == 0
            asked.cancel()
            await part.left.wait()

            async def free() -> bool:
                part.arrived.clear()
                again = asyncio.create_task(second.get("/health/proof"))
                arrived = asyncio.create_task(part.arrived.wait())
                await asyncio.wait([again, arrived], return_when=asyncio.FIRST_COMPLETED)
                again.cancel()
                arrived.cancel()
                return part.arrived.is_set()

            await eventually(free)


def digest_of(users: dict[str, bytes]) -> Digest:
    """The digest of a table of these users."""
    return Digest("live" if users else "rebuilt", len(users), users)
