"""The examples of the guides, run in their order."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
EXAMPLE = re.compile(
    r"^```http\n(?P<method>[A-Z]+) (?P<path>\S+)\n(?P<body>.*?)\n\n"
    r"(?P<status>\d{3}) (?P<answer>.*?)```$",
    re.DOTALL | re.MULTILINE,
)


@pytest.mark.parametrize("guide", ["schemas.md", "buckets.md"])
async def test_the_examples_of_the_guide_answer_as_it_says(
    client: httpx.AsyncClient, guide: str
) -> None:
    """Each example gets its status, and the fields that it shows."""
    text = (GUIDES / guide).read_text()
    examples = list(EXAMPLE.finditer(text))
    assert len(examples) == text.count("```http")
    for example in examples:
        answer = await client.request(
            example["method"], example["path"], content=example["body"].encode()
        )
        assert answer.status_code == int(example["status"]), answer.text
        said = msgspec.json.decode(example["answer"], type=dict[str, object])
        got = answer.json()
        assert {name: got[name] for name in said} == said
