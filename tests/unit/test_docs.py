"""The documentation says what the code does."""

from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from reyna import settings
from reyna.api import live
from reyna.runtime.frames import EventFrame

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def names_of(page: Path) -> str:
    """A page's name in the project."""
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file that is there."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_json_examples_are_json(page: Path) -> None:
    """Every JSON example of a page is JSON."""
    for block in re.findall(r"```json\n(.*?)```", page.read_text(), re.DOTALL):
        msgspec.json.decode(block)


def test_the_event_frame_of_the_guide_is_the_one_sent() -> None:
    """The guide's event frame has no field that the real one lacks."""
    guide = (ROOT / "docs/guides/http-and-socket.md").read_text()
    (block,) = re.findall(r"```json\n(.*?)```", guide, re.DOTALL)
    example = msgspec.json.decode(block, type=dict[str, object])
    assert set(example) <= set(EventFrame.__struct_fields__)


def test_the_guide_lists_the_close_codes() -> None:
    """Every code that the socket is closed with is explained in the guide."""
    guide = (ROOT / "docs/guides/http-and-socket.md").read_text()
    codes = {
        live.BAD_FRAME,
        live.NOT_AUTHENTICATED,
        live.ORIGIN_REFUSED,
        live.NOTHING_IN_TIME,
        live.TOO_SLOW,
    }
    assert codes <= {int(code) for code in re.findall(r"^\| (\d{4}) \|", guide, re.MULTILINE)}


def test_every_setting_is_in_the_guide() -> None:
    """The operator's guide names every setting that can be set, and none that cannot."""
    guide = (ROOT / "docs/guides/operate.md").read_text()
    known = {variable for variable, _ in settings._VARIABLES.values()}
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", guide, re.MULTILINE)) == known


def test_every_invariant_names_a_test_that_exists() -> None:
    """The tests that the invariants name are there."""
    page = (ROOT / "docs/invariants.md").read_text()
    named = set(re.findall(r"`(tests/[^`]+)`", page))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_decision_is_listed() -> None:
    """The list of decisions holds every decision and no other."""
    folder = ROOT / "docs/decisions"
    listed = set(re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text()))
    assert listed == {page.name for page in folder.glob("[0-9]*.md")}


@pytest.mark.parametrize("group", ["projections", "processors"])
def test_files_and_entry_points_are_equal(group: str) -> None:
    """Each view and each derivation is installed by an entry point of its own, and no other is."""
    ours = {point.value for point in entry_points(group=f"reyna.{group}")}
    folder = ROOT / group
    files = {path.stem for path in folder.glob("[!_]*.py")}
    files |= {path.parent.name for path in folder.glob("*/__init__.py")}
    assert {value.split(":")[0].removeprefix(f"{group}.") for value in ours} == files
