"""Who is signed in: the access token in force, and its renewal. Owns no HTTP.

A refresh token is good once, and one that comes back ends the session. So a renewal is one task
that all callers wait for, and no caller's cancellation ends it half-way.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime

from reyna.client.errors import Unauthorized
from reyna.client.model import Tokens

# Seconds before its expiry at which a token is renewed, but never more than a part of its life.
RENEW_BEFORE = 60.0
RENEW_PART = 0.2
SETTLE_WITHIN = 5.0

Renew = Callable[[str], Awaitable[tuple[Tokens, datetime]]]


class Session:
    """The tokens of one client. `renew` spends a refresh token; it answers with the server's time.

    `renew_at` is when the access token is to be renewed, by the loop's clock. `generation` grows
    with each sign-in: what belongs to an older one is somebody else's.
    """

    def __init__(self, renew: Renew, token: str | None, refresh_token: str | None) -> None:
        self._renew = renew
        self._renewing: asyncio.Task[None] | None = None
        self.access_token = token
        self.refresh_token = refresh_token
        self.renew_at = math.inf
        self.generation = 0

    def start(self, tokens: Tokens, server_time: datetime) -> None:
        """Be signed in with these tokens from now on."""
        self.generation += 1
        self._keep(tokens, server_time)

    def end(self) -> None:
        """Be nobody from now on."""
        self.generation += 1
        self.access_token = self.refresh_token = None
        self.renew_at = math.inf

    async def access(self, refused: str | None = None) -> str | None:
        """The access token, renewed if it is about to expire or is the one that was `refused`.

        None when nobody is signed in. Raises Unauthorized when the session has ended.
        """
        if self.refresh_token is not None and self._is_due(refused):
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._spend(self.refresh_token))
                self._renewing.add_done_callback(_hear)
            await asyncio.shield(self._renewing)
        return self.access_token

    async def settle(self) -> None:
        """Let a renewal that has begun come to its end."""
        if self._renewing is not None and not self._renewing.done():
            await asyncio.wait({self._renewing}, timeout=SETTLE_WITHIN)
            self._renewing.cancel()

    def _is_due(self, refused: str | None) -> bool:
        if self.access_token is None or self.access_token == refused:
            return True
        return asyncio.get_running_loop().time() >= self.renew_at

    async def _spend(self, refresh_token: str) -> None:
        generation = self.generation
        try:
            tokens, server_time = await self._renew(refresh_token)
        except Unauthorized:
            if generation == self.generation:
                self.refresh_token = None
                self.renew_at = math.inf
            raise
        if generation == self.generation:
            self._keep(tokens, server_time)

    def _keep(self, tokens: Tokens, server_time: datetime) -> None:
        self.access_token = tokens.access_token
        self.refresh_token = tokens.refresh_token
        # Counted from the server's clock: ours may be wrong, but runs as fast.
        life = (datetime.fromisoformat(tokens.expires_at) - server_time).total_seconds()
        before = min(RENEW_BEFORE, life * RENEW_PART)
        self.renew_at = asyncio.get_running_loop().time() + life - before


def _hear(renewing: asyncio.Task[None]) -> None:
    """Take note of an error that nobody waits for any more."""
    if not renewing.cancelled():
        renewing.exception()
