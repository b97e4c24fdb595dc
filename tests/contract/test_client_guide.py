"""The examples of docs/guides/client.md, run in their order."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import Studio

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "client.md"
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PRINTED = re.compile(r"print\(.*\)  # (.*)$", re.MULTILINE)


async def test_the_examples_of_the_guide_print_what_it_says(
    studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example runs against a studio, and prints what stands behind its lines."""
    examples = EXAMPLE.findall(GUIDE.read_text())
    assert len(examples) == GUIDE.read_text().count("```python")
    async with studio.connect() as client:
        await client.register(email=f"{uuid4().hex}@example.com", password="correct horse")
        names: dict[str, object] = {"studio": client}
        for example in examples:
            here = example.replace("http://127.0.0.1:8000", studio.url)
            code = compile(here, GUIDE.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            running = eval(code, names)
            if inspect.iscoroutine(running):
                await running
            names["studio"] = client
            said = ", ".join(PRINTED.findall(example))
            assert ", ".join(capsys.readouterr().out.splitlines()) == said
