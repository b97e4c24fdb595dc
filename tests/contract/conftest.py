"""One studio for all contract tests: each test brings users of its own, so they cannot meet."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from tests.support import Studio, User, running_studio


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def studio(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Studio]:
    """A studio without processors."""
    async with running_studio(tmp_path_factory.mktemp("contract")) as running:
        yield running


@pytest.fixture
def user(studio: Studio) -> User:
    """A fresh user."""
    return studio.user()


@pytest_asyncio.fixture(loop_scope="session")
async def client(studio: Studio, user: User) -> AsyncIterator[httpx.AsyncClient]:
    """The fresh user's client."""
    async with studio.client(user.token) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def stranger(studio: Studio) -> AsyncIterator[httpx.AsyncClient]:
    """Another user's client."""
    async with studio.client(studio.user().token) as client:
        yield client
