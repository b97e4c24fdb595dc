"""The press: makes the files of a manuscript in a process of its own, one book at a time.

Typesetting takes seconds of a processor and a few bytes of memory for each letter, in native code
that cannot be interrupted. So it is done by a child, with limits that the operating system keeps;
when a run is cancelled its child is killed.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import sys
from asyncio.subprocess import PIPE, Process

import msgspec

from processors._manuscript import Order, Printed
from reyna.errors import Permanent, Transient

logger = logging.getLogger(__name__)

# Seconds of processor time, and on the clock of a machine that has other things to do as well.
CPU_LIMIT = 240
TIME_LIMIT = 540.0
MEMORY_LIMIT = 4 * 1024 * 1024 * 1024

_DONE = msgspec.msgpack.Decoder(tuple[Printed, ...])


class Press:
    """Prints one order after the other."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def print(self, order: Order) -> tuple[Printed, ...]:
        """The files of an order. Raises Permanent when it takes too much, Transient when no process
        can be started.
        """
        async with self._turn:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-m", __name__),
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=PIPE,
                    env={},
                    start_new_session=True,
                )
            except OSError as error:
                raise Transient(f"No process can be started to print this: {error}") from error
            return await _exchange(process, msgspec.msgpack.encode(order))


async def _exchange(process: Process, order: bytes) -> tuple[Printed, ...]:
    try:
        async with asyncio.timeout(TIME_LIMIT):
            made, said = await process.communicate(order)
    except TimeoutError:
        raise Permanent(f"Printing this takes more than {TIME_LIMIT:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        logger.warning(
            "printing ended with %s: %s", process.returncode, said[-2000:].decode(errors="replace")
        )
        raise Permanent(
            "Printing this takes too much time or memory, or fails: compile a smaller part, or"
            " other formats."
        )
    return _DONE.decode(made)


def print_all(order: Order) -> tuple[Printed, ...]:
    """The files of an order, made in this process."""
    from processors._manuscript_epub import epub_of
    from processors._manuscript_markdown import markdown_of
    from processors._manuscript_pdf import pdf_of

    book = order.manuscript
    made: list[Printed] = []
    for one in order.formats:
        match one:
            case "markdown":
                made.append(Printed(one, markdown_of(book)))
            case "epub":
                made.append(Printed(one, epub_of(book)))
            case "pdf":
                made.append(Printed(one, pdf_of(book, order.page_size)))
    return tuple(made)


def _bound() -> None:
    """Have the operating system end this process when it takes too much."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT))
    if sys.platform == "linux":  # elsewhere an address space limit is not honoured, or not settable
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


if __name__ == "__main__":
    _bound()
    given = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.msgpack.encode(print_all(given)))
