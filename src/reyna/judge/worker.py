"""A judge: a process of its own that works on what strangers wrote, one task at a time.

It may use a bounded time of one processor for each task and a bounded memory; the operating system
ends it when it takes more, in native code too. It has no secrets: it is started with an empty
environment.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import BinaryIO

import msgspec
from jsonschema_rs import Validator

from reyna.errors import FieldError
from reyna.judge import compatibility, drafts
from reyna.judge.tasks import Answer, Check, Compare, Definition, Explain, Sift, Task

# Seconds of processor time.
CPU_LIMIT = 2.0
MEMORY_LIMIT = 1024 * 1024 * 1024
HELLO = b"judge\n"
LENGTH = struct.Struct(">I")

_TASK = msgspec.msgpack.Decoder(Task)


def judge(task: Task) -> Answer:
    """Do one task."""
    match task:
        case Check(definition, path):
            return Answer(
                tuple(drafts.faults(_json(definition.text), _resources(definition), path))
            )
        case Compare():
            return Answer(tuple(_compare(task)))
        case Explain(definition, data, path):
            return Answer(tuple(drafts.errors_of(_validator(definition), _json(data), path)))
        case Sift(definition, many):
            validator = _validator(definition)
            return Answer(valid=tuple(validator.is_valid(_json(data)) for data in many))


def serve(asked: BinaryIO, answered: BinaryIO) -> None:
    """Do tasks until there are no more."""
    answered.write(HELLO)
    answered.flush()
    while head := asked.read(LENGTH.size):
        task = _TASK.decode(asked.read(LENGTH.unpack(head)[0]))
        signal.setitimer(signal.ITIMER_PROF, CPU_LIMIT)
        answer = msgspec.msgpack.encode(judge(task))
        signal.setitimer(signal.ITIMER_PROF, 0)
        answered.write(LENGTH.pack(len(answer)) + answer)
        answered.flush()


def _compare(task: Compare) -> list[FieldError]:
    candidate = compatibility.Side(_json(task.definition.text), _resources(task.definition))
    breaks: list[FieldError] = []
    for older in task.older:
        definition = older.definition
        side = compatibility.Side(_json(definition.text), _resources(definition))
        breaks += compatibility.breaks(side, candidate, older.schema_id, task.mode, task.path)
    return breaks[: drafts.MAX_ERRORS]


@lru_cache(64)
def _validator(definition: Definition) -> Validator:
    return drafts.compiled(_json(definition.text), _resources(definition))


def _json(text: bytes) -> object:
    return msgspec.json.decode(text)


def _resources(definition: Definition) -> Mapping[str, object]:
    return {uri: _json(text) for uri, text in definition.resources}


def _bound() -> None:
    """Have the operating system end this process when it takes too much."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere an address space limit is not honoured, or not settable
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))


if __name__ == "__main__":
    _bound()
    serve(sys.stdin.buffer, sys.stdout.buffer)
