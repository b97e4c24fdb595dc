"""The examples of docs/guides/schemas.md, run in their order."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "schemas.md"
EXAMPLE = re.compile(
    r"^```http\n(?P<method>[A-Z]+) (?P<path>\S+)\n(?P<body>.*?)\n\n"
    r"(?P<status>\d{3}) (?P<answer>.*?)```$",
    re.DOTALL | re.MULTILINE,
)


async def test_the_examples_of_the_guide_answer_as_it_says(client: httpx.AsyncClient) -> None:
    """Each example gets its status, and the fields that it shows."""
    examples = list(EXAMPLE.finditer(GUIDE.read_text()))
    assert len(examples) == GUIDE.read_text().count("```http")
    for example in examples:
        answer = await client.request(
            example["method"], example["path"], content=example["body"].encode()
        )
        assert answer.status_code == int(example["status"]), answer.text
        said = msgspec.json.decode(example["answer"], type=dict[str, object])
        got = answer.json()
        assert {name: got[name] for name in said} == said
