"""The templates that ship, and what no template can be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import pytest

import templates
from reyna.commands.templates import Templates
from reyna.domain.bucket import BucketCreated, BucketDescription, NewBucket, Tree
from reyna.domain.tree_rules import TreeRules
from reyna.errors import Conflict, Invalid, SetupError

PROMISED = ["album", "book", "conversation", "pitch", "research"]
ROOT = BucketDescription(name="Mine", type="book")
TIME = "2026-11-22T15:04:05.123456Z"


class File(msgspec.Struct):
    """What a file says, as far as it is compared."""

    children: list[dict[str, object]]


def file(**fields: object) -> dict[str, bytes]:
    """One template's file, good but for some fields."""
    good = {"description": "d", "type": "book", "children": [{"name": "n", "type": "part"}]}
    return {"mine": msgspec.json.encode({**good, **fields})}


def nested(levels: int) -> list[object]:
    """Buckets one under the other."""
    return [{"name": "n", "type": "t", "children": nested(levels - 1)}] if levels else []


def outline(children: Iterable[NewBucket]) -> list[object]:
    """What shall be below a bucket, as nested lists."""
    return [(one.description.name, one.description.type, outline(one.children)) for one in children]


def in_order(children: Iterable[NewBucket], parent: str) -> Iterator[tuple[str, str]]:
    """All buckets that shall be, each before its children, with their parents."""
    for one in children:
        yield one.bucket_id, parent
        yield from in_order(one.children, one.bucket_id)


def test_the_promised_templates_ship() -> None:
    """Five templates ship, all of them good; each is meant for the type that it is named after."""
    shipped = Templates(templates.load()).all()
    assert [one.name for one in shipped] == PROMISED
    for one in shipped:
        assert one.type == one.name
        assert one.description.endswith(".")


@pytest.mark.parametrize("name", PROMISED)
def test_a_template_becomes_exactly_its_tree(name: str) -> None:
    """The rules decide every bucket of the file before its children, and they fold to its tree."""
    template = Templates(templates.load()).get(name)
    tree = Tree()
    rules = TreeRules("u1", tree, 32)
    below = template.below("root", "key")
    rules.create("root", ROOT, None, below)
    decided = rules.decided()
    made: list[tuple[str, str | None]] = []
    for seq, one in enumerate(decided, start=1):
        assert isinstance(one.event, BucketCreated)
        made.append((one.entity_id, one.event.parent_bucket_id))
        tree.fold(one.entity_id, one.event, seq, TIME)
    assert made == [("root", None), *in_order(below, "root")]

    def grown(parent: str) -> list[object]:
        return [(b.name, b.type, grown(b.bucket_id)) for b in tree.children(parent)]

    assert grown("root") == outline(below)
    written = msgspec.json.decode(templates.load()[name], type=File)
    assert [one.name for one in tree.children("root")] == [c["name"] for c in written.children]
    assert len(tree.buckets) == len(template.descriptions()) + 1


def test_ids_follow_from_the_roots_under_a_key() -> None:
    """With a key the ids come out the same again; without one they are new each time."""
    book = Templates(templates.load()).get("book")
    assert book.below("r", "key") == book.below("r", "another key")
    keyed = {bucket_id for bucket_id, _ in in_order(book.below("r", "key"), "r")}
    assert len(keyed) == len(book.descriptions())
    assert not keyed & {bucket_id for bucket_id, _ in in_order(book.below("s", "key"), "s")}
    first, second = book.below("r", None), book.below("r", None)
    assert first != second
    assert outline(first) == outline(second)


@pytest.mark.parametrize(("depth", "fits"), [(3, False), (4, True)])
def test_the_whole_template_must_fit(depth: int, fits: bool) -> None:
    """A template of two levels below a root needs a depth of four under a root, else nothing."""
    tree = Tree()
    tree.fold("top", BucketCreated(name="n", type="t", rank="a0"), 1, TIME)
    below = Templates(file(children=nested(2))).get("mine").below("r", None)
    rules = TreeRules("u1", tree, depth)
    if fits:
        rules.create("r", ROOT, "top", below)
        assert len(rules.decided()) == 3
        return
    with pytest.raises(Conflict, match="4 deep"):
        rules.create("r", ROOT, "top", below)
    assert rules.decided() == []


def test_an_unknown_template_is_named_beside_those_there_are() -> None:
    """The refusal has the place and the known names, and no more of an overlong name than it
    needs.
    """
    with pytest.raises(Invalid, match="album, book, conversation, pitch, research") as refused:
        Templates(templates.load()).get("novel" * 1000)
    (error,) = refused.value.errors
    assert error.path == "/template"
    assert len(error.message) < 200


@pytest.mark.parametrize(
    "fields",
    [
        {"children": [{"name": " ", "type": "part"}]},
        {"children": [{"name": "n" * 201, "type": "part"}]},
        {"children": [{"name": "n", "type": "Part"}]},
        {"children": [{"name": "n", "type": "a.b"}]},
        {"children": [{"name": "n"}]},
        {"children": [{"name": "n", "type": "part", "tags": [""]}]},
        {"children": [{"name": "n", "type": "part", "metadata": {"x": "y" * 17_000}}]},
        {"children": [{"name": "n", "type": "part", "colour": "red"}]},
        {"children": [{"name": "n", "type": "part"}] * 201},
        {"children": nested(9)},
        {"children": 5},
        {"type": "Book"},
        {"description": None},
        {"name": "another"},
    ],
)
def test_what_breaks_a_rule_is_no_template(fields: dict[str, object]) -> None:
    """A file beyond the limits of a request, or of another shape, stops the start and is named."""
    with pytest.raises(SetupError, match=r"templates/mine\.json"):
        Templates(file(**fields))


def test_what_is_not_json_is_no_template() -> None:
    """A broken or absurdly nested file is refused by its name as well."""
    deep = b'{"children": ' + b'[{"children": ' * 5000
    for wrong in (b"", b"{", b"[]", deep):
        with pytest.raises(SetupError, match=r"templates/mine\.json"):
            Templates({"mine": wrong})
