"""The hub: one follower a process fans the log out to the sockets here. Owns subscriptions and
outboxes.

The hub never waits for a client: a frame is encoded once, put into bounded outboxes, and a client
whose outbox overruns is let go, to resume by its cursor. Every subscription begins by catching up:
what comes live meanwhile is held, so that there is no gap and nothing twice.
"""

from __future__ import annotations

import asyncio
from collections import deque

import msgspec

from reyna.commands.boundaries import Boundaries
from reyna.domain.bucket import Tree
from reyna.errors import NotFound, TooManyRequests
from reyna.log import subjects
from reyna.log.follow import Follower
from reyna.log.progress import Progress, ProgressFeed
from reyna.log.record import Record, Stored, decode
from reyna.log.stream import Log
from reyna.runtime.frames import blob_of, concerned, frame_of

OUTBOX_FRAMES = 4096
OUTBOX_CHARACTERS = 16 * 1024 * 1024
HELD_FRAMES = 2048
HELD_CHARACTERS = OUTBOX_CHARACTERS // 4
MAX_LISTENERS = 200


class Frame(msgspec.Struct, frozen=True):
    """An encoded event on its way to many sockets."""

    seq: int
    text: str


class Outbox:
    """What waits to be sent to one client. Bounded; `overrun` says that the client was too slow."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self._size = 0
        self._filled = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self.overrun = False

    @property
    def busy(self) -> bool:
        """Whether it is half full: then only what matters should be put in."""
        return len(self._waiting) > OUTBOX_FRAMES // 2 or self._size > OUTBOX_CHARACTERS // 2

    def put(self, text: str) -> None:
        """Add a frame; one too many sets `overrun`, and nothing is taken any more."""
        if self.overrun:
            return
        if len(self._waiting) >= OUTBOX_FRAMES or self._size + len(text) > OUTBOX_CHARACTERS:
            self.overrun = True
        else:
            self._waiting.append(text)
            self._size += len(text)
            if self.busy:
                self._drained.clear()
        self._filled.set()

    async def room(self) -> None:
        """Return once it is less than half full."""
        await self._drained.wait()

    async def take(self) -> str | None:
        """The next frame, in order; None once it has overrun."""
        while not self._waiting and not self.overrun:
            self._filled.clear()
            await self._filled.wait()
        if self.overrun:
            return None
        text = self._waiting.popleft()
        self._size -= len(text)
        if not self.busy:
            self._drained.set()
        return text


class Subscription:
    """What one subscribe asked for. `buckets` None is everything of the owner's.

    `cursor` is the last seq handed over. While it catches up, frames after `floor` are held.
    """

    def __init__(self, buckets: frozenset[str] | None, *, subtree: bool, floor: int) -> None:
        self.buckets = buckets
        self.subtree = subtree
        self.cursor = 0
        self.floor = floor
        self.overflowed = False
        self.held: deque[Frame] | None = deque()
        self._held_size = 0
        self.catching_up: asyncio.Task[None] | None = None

    def matches(self, near: frozenset[str], above: frozenset[str]) -> bool:
        """Whether an event in the buckets `near`, below the buckets `above`, is wanted."""
        if self.buckets is None:
            return True
        return not self.buckets.isdisjoint(above if self.subtree else near)

    def hold(self, frame: Frame) -> None:
        """Keep a live frame until the catch-up has come to it."""
        assert self.held is not None
        self._held_size += len(frame.text)
        fits = len(self.held) < HELD_FRAMES and self._held_size <= HELD_CHARACTERS
        if fits and not self.overflowed:
            self.held.append(frame)
        else:
            self.overflowed = True
            self.held.clear()
            self._held_size = 0


class Listener:
    """One socket: its owner, its outbox, its subscriptions."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.outbox = Outbox()
        self.subscriptions: list[Subscription] = []
        self.turn = asyncio.Lock()

    def offer(self, frame: Frame, near: frozenset[str], above: frozenset[str]) -> None:
        """Take a live frame: once into the outbox, or held by what is still catching up."""
        sent = False
        for subscription in self.subscriptions:
            if not subscription.matches(near, above):
                continue
            if subscription.held is not None:
                subscription.hold(frame)
            elif frame.seq > subscription.cursor:
                subscription.cursor = frame.seq
                if not sent:
                    self.outbox.put(frame.text)
                    sent = True

    def unsubscribe(self, buckets: frozenset[str] | None) -> None:
        """Stop listening to some buckets, or with None to everything of the owner's."""
        for subscription in self.subscriptions:
            if buckets is not None and subscription.buckets is not None:
                subscription.buckets -= buckets
        stays = [
            s
            for s in self.subscriptions
            if (s.buckets is None and buckets is not None) or s.buckets
        ]
        for gone in set(self.subscriptions) - set(stays):
            if gone.catching_up is not None:
                gone.catching_up.cancel()
        self.subscriptions = stays


class Hub:
    """Fans out to all listeners of this process. `position` is the last seq it has handed on."""

    def __init__(self, log: Log, boundaries: Boundaries) -> None:
        self.log = log
        self.position = 0
        self._boundaries = boundaries
        self._listeners: dict[str, set[Listener]] = {}
        self._trees: dict[str, Tree] = {}
        self._loading: dict[str, list[Record]] = {}
        self._progress = ProgressFeed(log.connection, self._pass_on)
        self.started = asyncio.Event()

    @property
    def sockets(self) -> int:
        """How many listeners there are."""
        return sum(len(here) for here in self._listeners.values())

    async def run(self) -> None:
        """Follow the log from its head for ever."""
        self.position = await self.log.head()
        self.started.set()
        batches = Follower(self.log.connection, [subjects.ALL], self.position).batches()
        try:
            async for batch in batches:
                for stored in batch.messages:
                    self._dispatch(stored)
        finally:
            await batches.aclose()

    async def join(self, listener: Listener) -> None:
        """Let a listener in; progress of its owner's runs is subscribed with the first.

        Raises TooManyRequests when the owner has too many already.
        """
        here = self._listeners.setdefault(listener.owner, set())
        if len(here) >= MAX_LISTENERS:
            raise TooManyRequests(f"A user has at most {MAX_LISTENERS} sockets here.", 60)
        here.add(listener)
        try:
            await self._progress.open(listener.owner)
        except BaseException:
            await self.leave(listener)
            raise

    async def leave(self, listener: Listener) -> None:
        """Let a listener go."""
        here = self._listeners.get(listener.owner, set())
        here.discard(listener)
        if not here and self._listeners.pop(listener.owner, None) is not None:
            self._trees.pop(listener.owner, None)
            await self._progress.close(listener.owner)

    async def subscribe(
        self, listener: Listener, buckets: frozenset[str] | None, *, subtree: bool
    ) -> Subscription:
        """Begin to hold what comes for a new subscription; `catch_up` is to follow.

        Raises NotFound for a bucket that is not the owner's.
        """
        if buckets is not None:
            tree = await self._tree(listener.owner)
            if not buckets <= tree.buckets.keys():
                # The hub may not have come to a bucket that has just been made.
                tree = await self._boundaries.tree(listener.owner, fresh=True)
            for bucket_id in buckets:
                if bucket_id not in tree.buckets:
                    raise NotFound(f"There is no bucket {bucket_id}.")
        subscription = Subscription(buckets, subtree=subtree, floor=self.position)
        listener.subscriptions.append(subscription)
        return subscription

    async def catch_up(self, listener: Listener, subscription: Subscription, after: int) -> int:
        """Hand over the owner's events after `after`, then go live; answers the seq reached.

        A listener's subscriptions catch up one after the other.
        """
        subscription.cursor = after
        async with listener.turn:
            while subscription.cursor < subscription.floor or subscription.overflowed:
                if subscription.overflowed:
                    # More came meanwhile than could be held: read that from the log as well.
                    subscription.overflowed = False
                    subscription.floor = max(subscription.floor, self.position)
                await self._read_up(listener, subscription)
                # What was held is handed over at once: there must be room for it.
                await listener.outbox.room()
        assert subscription.held is not None
        for frame in subscription.held:
            if frame.seq > subscription.cursor:
                listener.outbox.put(frame.text)
                subscription.cursor = frame.seq
        subscription.held = None
        return subscription.cursor

    async def _read_up(self, listener: Listener, subscription: Subscription) -> None:
        follower = Follower(
            self.log.connection, [subjects.of_owner(listener.owner)], subscription.cursor
        )
        batches = follower.batches()
        try:
            async for batch in batches:
                for stored in batch.messages:
                    if stored.seq > subscription.floor:
                        break
                    record = decode(stored)
                    near, above = self._places(record)
                    if subscription.matches(near, above):
                        await listener.outbox.room()
                        listener.outbox.put(encode(record).text)
                if not batch.pending or follower.position >= subscription.floor:
                    break
        finally:
            await batches.aclose()
        subscription.cursor = subscription.floor

    def _dispatch(self, stored: Stored) -> None:
        self.position = stored.seq
        listeners = self._listeners.get(stored.subject.split(".", 2)[1])
        if not listeners:
            return
        record = decode(stored)
        self._keep_tree(record)
        near, above = self._places(record)
        frame = encode(record)
        for listener in listeners:
            listener.offer(frame, near, above)

    def _places(self, record: Record) -> tuple[frozenset[str], frozenset[str]]:
        """The buckets an event concerns, and these with all above them."""
        return self._around(record.owner, concerned(record), blob_of(record))

    def _around(
        self, owner: str, near: tuple[str, ...], blob_id: str | None
    ) -> tuple[frozenset[str], frozenset[str]]:
        """Some buckets with those that a blob is in now, and these with all above them.

        An event may say less of where its blob is: it may have been filed anew since.
        """
        tree = self._trees.get(owner)
        if tree is None:
            return frozenset(near), frozenset(near)
        if blob_id is not None:
            near = (*near, *tree.filed(blob_id, ()))
        return frozenset(near), self._with_above(tree, near)

    async def _tree(self, owner: str) -> Tree:
        """The hub's own tree of an owner: folded here from every event, never shared."""
        async with self._boundaries.locked(f"hub {owner}"):
            known = self._trees.get(owner)
            if known is not None:
                return known
            meanwhile = self._loading[owner] = []
            try:
                tree = await self._boundaries.own_tree(owner)
            finally:
                del self._loading[owner]
            for record in meanwhile:
                if record.seq > tree.seq:
                    tree.fold(record.entity_id, record.event, record.seq, record.time)
            if owner in self._listeners:
                self._trees[owner] = tree
            return tree

    def _keep_tree(self, record: Record) -> None:
        if record.subject.kind != "bucket":
            return
        if record.owner in self._loading:
            self._loading[record.owner].append(record)
        tree = self._trees.get(record.owner)
        if tree is not None and record.seq > tree.seq:
            tree.fold(record.entity_id, record.event, record.seq, record.time)

    def _with_above(self, tree: Tree, near: tuple[str, ...]) -> frozenset[str]:
        above = set(near)
        for bucket_id in near:
            bucket = tree.buckets.get(bucket_id)
            if bucket is not None:
                above.update(up.bucket_id for up in tree.above(bucket))
        return frozenset(above)

    def _pass_on(self, owner: str, progress: Progress) -> None:
        near, above = self._around(owner, progress.bucket_ids, progress.blob_id)
        text = msgspec.json.encode(progress).decode()
        for listener in self._listeners.get(owner, ()):
            wanted = any(s.matches(near, above) for s in listener.subscriptions)
            if wanted and not listener.outbox.busy:
                listener.outbox.put(text)


def encode(record: Record) -> Frame:
    """The frame of a record, encoded once for all who get it."""
    return Frame(record.seq, msgspec.json.encode(frame_of(record)).decode())
