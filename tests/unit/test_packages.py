"""What packages bring along: schemas by entry point, and what is said when one is not right."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

import schemas as shipped
from reyna import content
from reyna.errors import SetupError

THING = '{"$schema": "http://json-schema.org/draft-07/schema#", "description": "A thing."}'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package `theirs` that ships schemas beside ours."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    points = [EntryPoint("reyna", "schemas", "reyna.schemas")]
    points.append(EntryPoint("theirs", "theirs", "reyna.schemas"))
    monkeypatch.setattr(content, "entry_points", lambda group: points)
    return folder


def test_ours_are_found_like_everybodys() -> None:
    """Our own schemas come by their entry point, and all of them."""
    found = {one.schema_id: one.definition for one in content.schemas()}
    assert found.items() >= {one.schema_id: one.definition for one in shipped.load()}.items()


def test_schemas_of_another_package_are_found(package: Path) -> None:
    """A file in a package with an entry point is a schema."""
    (package / "thing.v2.json").write_text(THING)
    (thing,) = [one for one in content.schemas() if one.name == "thing"]
    assert (thing.schema_id, thing.version, thing.description) == ("thing-v2", 2, "A thing.")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("thing.json", THING, "is not named like"),
        ("thing.v1.json", "{}", "description"),
        ("thing.v1.json", "{", "reyna.schemas"),
        ("text-input.v1.json", THING, "Two installed packages ship a schema text-input-v1"),
    ],
)
def test_what_is_wrong_with_a_package_is_said(
    package: Path, name: str, text: str, said: str
) -> None:
    """A wrong name, a file that is no schema and an id that is taken end the start."""
    (package / name).write_text(text)
    with pytest.raises(SetupError, match=said):
        content.schemas()
