"""The server's side of the judges: a few processes, started when first needed, one task at a time.

One user has one task with a judge at a time, so that what takes long for one never keeps all of
them from the others. A task that takes too much costs the judge its life and its user a refusal.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process

import msgspec

from reyna.errors import FieldError, Invalid, TooManyRequests, Unavailable
from reyna.judge.tasks import Answer, Task
from reyna.judge.worker import CPU_LIMIT, HELLO, LENGTH

logger = logging.getLogger(__name__)

JUDGES = 2
# How many tasks of one user may wait.
WAITING = 32
# Seconds on the clock: for a machine that has other things to do as well.
START_TIMEOUT = 30.0
TASK_TIMEOUT = 30.0
PATIENCE = 0.5

_ANSWER = msgspec.msgpack.Decoder(Answer)


class TooCostly(Invalid):
    """A task took more than a judge gives it."""


class JudgeUnavailable(Unavailable):
    """No judge could be started."""


class Judges:
    """Judges, shared by all users of a process."""

    def __init__(self) -> None:
        self._idle: list[Process] = []
        self._free = asyncio.Semaphore(JUDGES)
        self._users: dict[str, tuple[asyncio.Lock, int]] = {}

    async def ask(self, user_id: str, task: Task) -> Answer:
        """Have a task done for a user.

        Raises TooCostly when it takes too much, TooManyRequests when too many of the user's wait.
        """
        lock, waiting = self._users.get(user_id, (asyncio.Lock(), 0))
        if waiting >= WAITING:
            raise TooManyRequests("Too much is being judged for you already.", retry_after=1)
        self._users[user_id] = (lock, waiting + 1)
        try:
            async with lock, self._free:
                return await self._ask(task)
        finally:
            lock, waiting = self._users.pop(user_id)
            if waiting > 1:
                self._users[user_id] = (lock, waiting - 1)

    async def close(self) -> None:
        """End the judges."""
        for process in self._idle:
            await _end(process)
        self._idle.clear()

    async def _ask(self, task: Task) -> Answer:
        process = self._idle.pop() if self._idle else await _start()
        try:
            async with asyncio.timeout(TASK_TIMEOUT):
                answer = await _exchange(process, msgspec.msgpack.encode(task))
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            await _end(process)
            logger.info("a judge was given up: exit status %s", process.returncode)
            sentence = f"Judging this takes more than {CPU_LIMIT:g} s, or too much memory."
            raise TooCostly(sentence, [FieldError("", "cost", sentence)]) from None
        except BaseException:
            await _end(process)
            raise
        self._idle.append(process)
        return answer


async def _start() -> Process:
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-m",
            "reyna.judge.worker",
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            env={},
            start_new_session=True,
        )
    except OSError as error:
        raise JudgeUnavailable(f"No process can be started to judge this: {error}") from error
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            await process.stdout.readexactly(len(HELLO))
    except (TimeoutError, asyncio.IncompleteReadError) as error:
        await _end(process)
        raise JudgeUnavailable("The process that was to judge this does not start.") from error
    except BaseException:
        await _end(process)
        raise
    return process


async def _exchange(process: Process, task: bytes) -> Answer:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(LENGTH.pack(len(task)) + task)
    await process.stdin.drain()
    (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
    return _ANSWER.decode(await process.stdout.readexactly(length))


async def _end(process: Process) -> None:
    """End a judge: when nothing more can be asked it ends by itself, unless it is at work."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
