"""Writes a text out piece by piece. Owns the order of the pieces, what is tried again at once, and
what is kept of a text whose writing was broken off.

What is heard of it while it is written is what is kept, in order and without a break. A piece of
which something was heard can therefore not be begun again: the whole attempt ends, and the next one
goes on where this one was, for what is written already is not paid for twice.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import regex

from processors._models import Model
from processors._pieces import Piece, split, split_more, tokens_in
from processors._prompts import Task
from processors._wire import Answer, TooLong
from reyna.content import Progress
from reyna.errors import Permanent, Transient

MAX_PIECES = 200
# How often a piece is tried at once, and the seconds that are waited for that at first and at most.
TRIES = 3
FIRST_WAIT = 1.0
LONGEST_WAIT = 60.0

# Tokens of what was written before, told for continuity; and of a piece that is worth writing out.
_BEFORE = 200
_SMALLEST = 40
# A model does not count: room for an answer that is longer than was asked.
_MARGIN = 1.3
# Unfinished texts that are kept: how many characters of all of them, and for how many seconds.
_KEPT = 8_000_000
_KEPT_FOR = 2 * 3600.0
_QUOTED = 80

TOO_SMALL = (
    "The demo model did not manage to expand this text. Try a shorter one, or have a real model set"
    " up: OPENAI_API_KEY, or REYNA_TEXT_BASE_URL."
)
_LABEL = regex.compile(
    r"(?:\*\*|#+ )?(?:the )?(?:expanded|rewritten) (?:text|version|paragraph):(?:\*\*)?\s*",
    regex.IGNORECASE,
)


class Passage(msgspec.Struct, frozen=True):
    """A piece as it was written out; the answer's text is without labels and outer blanks."""

    gap: str
    answer: Answer


class Manuscript(msgspec.Struct):
    """A text that is being written out: the pieces ahead, and what is written.

    `size` is the tokens of a piece at most; `smaller` says that they were cut smaller once already.
    """

    ahead: deque[Piece]
    size: int
    passages: list[Passage] = []
    smaller: bool = False

    @property
    def text(self) -> str:
        """All that is written."""
        return "".join(passage.gap + passage.answer.text for passage in self.passages)

    def cut_smaller(self) -> bool:
        """Halve the pieces ahead, if they were not before; says whether it did."""
        size = min(self.size, tokens_in(self.ahead[0].text)) // 2
        if self.smaller or size < _SMALLEST:
            return False
        self.ahead = deque(part for piece in self.ahead for part in split_more(piece, size))
        self.size, self.smaller = size, True
        return True


def begin(model: Model, task: Task) -> Manuscript:
    """The text of a task in pieces that fit the model's window. Takes tenths of a second for a long
    one.

    Raises Permanent for a text that is too long for that.
    """
    size = _size(model, task)
    # A cut is not always at the best place.
    least = tokens_in(task.content) // size
    pieces = split(task.content, size) if least <= MAX_PIECES else []
    if not 0 < len(pieces) <= MAX_PIECES:
        raise Permanent(
            f"The text is too long: it would take {len(pieces) or least} pieces that the model can"
            f" hold, and at most {MAX_PIECES} are written. Split it into several texts."
        )
    return Manuscript(deque(pieces), size)


def _size(model: Model, task: Task) -> int:
    """The tokens of a piece that fits the window with what is said around it and its answer."""
    empty = msgspec.structs.replace(task, content="", part=2, parts=2, before="…")
    around = sum(tokens_in(str(message)) for message in model.prompt(empty)) + _BEFORE
    growth = _MARGIN * task.length_factor
    size = int(
        min(
            (model.window - around) / (1 + growth),
            model.longest_answer / task.length_factor,
            model.longest_piece,
        )
    )
    if size < _SMALLEST:
        raise Permanent(
            f"The model's window of {model.window} tokens has no room for this: ask for a shorter"
            " style or a smaller length factor, or set REYNA_TEXT_WINDOW to the model's real one."
        )
    return size


class Author:
    """Writes a manuscript to its end, as a task says and with one model."""

    def __init__(self, model: Model, task: Task, options: dict[str, float]) -> None:
        self._model = model
        self._task = task
        self._options = options

    async def finish(self, manuscript: Manuscript, progress: Progress) -> None:
        """Write all pieces that are ahead; what is written already is told once more.

        Raises Transient and Permanent; the manuscript then holds what was written.
        """
        if manuscript.passages:
            await progress(manuscript.text)
        while manuscript.ahead:
            answer = await self._next(manuscript, progress)
            manuscript.passages.append(Passage(manuscript.ahead.popleft().gap, answer))

    async def _next(self, manuscript: Manuscript, progress: Progress) -> Answer:
        tries = 1
        while True:
            outlet = Outlet(progress, manuscript.ahead[0].gap)
            try:
                return await self._ask(manuscript, outlet)
            except TooLong:
                if not manuscript.cut_smaller():
                    raise
            except Transient as error:
                wait = error.retry_after
                if wait is None:
                    wait = FIRST_WAIT * 2.0 ** (tries - 1) * random.uniform(0.5, 1.5)
                # Without anything paid for, waiting is better done by who runs this.
                can_wait = manuscript.passages and wait <= LONGEST_WAIT and tries < TRIES
                if outlet.was_heard or not can_wait:
                    raise
                tries += 1
                await asyncio.sleep(wait)

    async def _ask(self, manuscript: Manuscript, outlet: Outlet) -> Answer:
        done = len(manuscript.passages)
        piece = manuscript.ahead[0].text
        task = msgspec.structs.replace(
            self._task,
            content=piece,
            part=done + 1,
            parts=done + len(manuscript.ahead),
            before=_end_of(manuscript.passages[-1].answer.text) if done else "",
        )
        answer = await self._model.chat.ask(self._model.prompt(task), outlet, self._options)
        text = await outlet.close()
        self._check(manuscript, answer, text)
        return msgspec.structs.replace(answer, text=text)

    def _check(self, manuscript: Manuscript, answer: Answer, text: str) -> None:
        """Raise Transient or Permanent for what is not all of a piece, written out."""
        if not text:
            raise Transient("The model's answer was empty.")
        is_demo = self._model.is_demo
        if answer.cut_short and not is_demo:
            if manuscript.cut_smaller():
                raise Transient("The model ran out of room; it is asked again in smaller pieces.")
            raise Permanent(
                "The model ran out of room before it had expanded the text: ask for a smaller"
                " length factor, or set a model with room for a longer answer."
            )
        # Another language may take fewer tokens for the same.
        least = tokens_in(manuscript.ahead[0].text) / (2 if self._task.language else 1)
        if answer.cut_short or tokens_in(text) < least:
            began = f"{text[:_QUOTED]}…" if len(text) > _QUOTED else text
            raise Transient(
                TOO_SMALL
                if is_demo
                else f"The model's answer is shorter than the text, so it is none. It says: {began}"
            )


class Outlet:
    """Passes an answer on while it is written, after the blanks that stand before it, and without
    labels and blanks around it.
    """

    def __init__(self, progress: Progress, gap: str) -> None:
        self._progress = progress
        self._gap = gap
        self._held = ""
        self._heard: list[str] = []

    @property
    def was_heard(self) -> bool:
        """Whether any of it was passed on."""
        return bool(self._heard)

    async def __call__(self, text: str) -> None:
        """Take one piece."""
        self._held += text
        if not self._heard:
            self._held = self._held.lstrip()
            if _LABEL.fullmatch(self._held, partial=True):
                return
            self._held = _LABEL.sub("", self._held, count=1) if self._labelled() else self._held
        await self._pass_on()

    async def close(self) -> str:
        """All of it, when there is no more to come."""
        if not self._heard and self._labelled():
            self._held = ""
        await self._pass_on()
        return "".join(self._heard)

    def _labelled(self) -> bool:
        return _LABEL.match(self._held) is not None

    async def _pass_on(self) -> None:
        ready = self._held.rstrip()
        if ready:
            self._held = self._held[len(ready) :]
            lead = "" if self._heard else self._gap
            self._heard.append(ready)
            await self._progress(lead + ready)


class Desk:
    """Keeps what was written of texts whose writing was broken off, for the next attempt. Nothing
    depends on it but the price: another process begins anew.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, Manuscript]] = {}

    @contextmanager
    def writing(self, key: str, fresh: Manuscript) -> Iterator[Manuscript]:
        """The manuscript that was left under a key, else the fresh one. Nobody else gets it within
        the block; it is kept if it has a beginning and no end.
        """
        self._clear()
        _, manuscript = self._kept.pop(key, (0.0, fresh))
        try:
            yield manuscript
        finally:
            if manuscript.ahead and (manuscript.passages or manuscript.smaller):
                self._kept[key] = (self._clock(), manuscript)
                self._clear()

    def _clear(self) -> None:
        """Drop what is too old, and the oldest of what is too much."""
        room = _KEPT
        for key, (since, manuscript) in reversed(list(self._kept.items())):
            room -= len(manuscript.text) + sum(len(piece.text) for piece in manuscript.ahead)
            if room < 0 or self._clock() - since > _KEPT_FOR:
                del self._kept[key]


def _end_of(text: str) -> str:
    """The last sentences or words of a text, of at most `_BEFORE` tokens."""
    end = text[-3 * _BEFORE :]
    while tokens_in(end) > _BEFORE:
        end = end[len(end) // 4 :]
    _, blank, rest = end.partition(" ") if len(end) < len(text) else ("", " ", end)
    return rest if blank else end
