"""The guides for plugin authors show the files of the package that a test installs and runs."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from reyna.content import ProcessorSpec

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
PACKAGE = ROOT / "docs" / "examples" / "reyna-word-count"
SHOWN = re.compile(
    r"`([\w./-]+)`:\n\n```(?:python|json|toml)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


@pytest.mark.parametrize("guide", ["write-a-processor.md", "write-a-projection.md"])
def test_the_code_of_a_guide_is_the_packages(guide: str) -> None:
    """Every block of code is a file of the package as it stands, named before it."""
    text = (GUIDES / guide).read_text()
    shown = SHOWN.findall(text)
    assert len(shown) == len(re.findall(r"^```(?:python|json|toml)$", text, re.MULTILINE))
    for name, block in shown:
        assert block == (PACKAGE / name).read_text(), name


@pytest.mark.parametrize(("name", "most"), [("processor.py", 40), ("projection.py", 60)])
def test_the_examples_stay_short(name: str, most: int) -> None:
    """A processor is under 40 lines, a projection with its route under 60."""
    lines = (PACKAGE / "reyna_word_count" / name).read_text().splitlines()
    assert len(lines) < most


def test_every_field_of_a_spec_is_explained() -> None:
    """The guide's table has each field of ProcessorSpec, with its default."""
    rows = re.findall(
        r"^\| (`.*?`) \|", (GUIDES / "write-a-processor.md").read_text(), re.MULTILINE
    )
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert named == {field.name for field in msgspec.structs.fields(ProcessorSpec)}
