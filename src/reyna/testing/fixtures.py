"""The running studio as pytest fixtures: `pytest_plugins = ["reyna.testing.fixtures"]` in a
conftest.py. Needs the extra `reyna-studio[testing]`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from reyna.client import Client
from reyna.content import Processor, Projection
from reyna.settings import Settings
from reyna.testing.studios import Studio, running_studio


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in the studio; None is everything installed."""

    projections: Sequence[Projection] | None = None
    processors: Sequence[Processor] | None = None
    settings: Settings | None = None


@pytest.fixture
def studio_parts() -> Parts:
    """Everything installed. A fixture of the same name in a conftest.py says otherwise."""
    return Parts()


@pytest_asyncio.fixture
async def studio(tmp_path: Path, studio_parts: Parts) -> AsyncIterator[Studio]:
    """A running studio, new for each test."""
    async with running_studio(
        tmp_path / "studio",
        projections=studio_parts.projections,
        processors=studio_parts.processors,
        settings=studio_parts.settings,
    ) as running:
        yield running


@pytest_asyncio.fixture
async def writer(studio: Studio) -> AsyncIterator[Client]:
    """The client of a new user of the studio."""
    async with studio.signed_in() as client:
        yield client
