"""Templates: small trees that are made at once. Owns what a template's file may say; the files
stand in the package `templates`.

A bucket from a template is a bucket as any other: nothing in the log refers to the template, and
an edited file changes no tree that was made before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from reyna.commands.requests import BucketType, bucket_metadata, check_bucket
from reyna.domain.bucket import BucketDescription, NewBucket
from reyna.errors import FieldError, Invalid, Rejected, SetupError
from reyna.ids import id_of, new_id

# Of one template, its root not counted.
MAX_BUCKETS = 200
MAX_LEVELS = 8


class Node(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bucket that a template makes, with those below it, in order."""

    name: str
    type: BucketType
    metadata: dict[str, object] = {}
    tags: tuple[str, ...] = ()
    children: tuple[Node, ...] = ()

    def description(self) -> BucketDescription:
        """What the bucket will be. Raises Rejected beyond the limits of a request."""
        check_bucket(self.name, self.tags)
        return BucketDescription(
            name=self.name,
            type=self.type,
            metadata=bucket_metadata(self.metadata),
            tags=tuple(dict.fromkeys(self.tags)),
        )


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """A template; `type` is what a bucket made from it is meant to be."""

    name: str
    description: str
    type: str
    children: tuple[Node, ...]

    def below(self, root_id: str, key: str | None) -> tuple[NewBucket, ...]:
        """The buckets to be made below `root_id`. Under a key their ids follow from the root's, so
        that the same request makes the same tree.
        """
        return _new_buckets(self.children, root_id, keyed=key is not None)

    def descriptions(self) -> list[BucketDescription]:
        """What the buckets below the root will be, every one before its children."""
        return [node.description() for node, _ in _walk(self.children)]


class _File(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    description: str
    type: BucketType
    children: tuple[Node, ...]


class Templates:
    """The templates that there are, by name. Raises SetupError for a file that is none."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._by_name = {name: _read(name, files[name]) for name in sorted(files)}

    def all(self) -> list[Template]:
        """All of them, by name."""
        return list(self._by_name.values())

    def get(self, name: str) -> Template:
        """A template. Raises Invalid, which names those that there are."""
        found = self._by_name.get(name)
        if found is None:
            sentence = f"There is no template {name[:80]!r}; there are {', '.join(self._by_name)}."
            raise Invalid(sentence, [FieldError("/template", "enum", sentence)])
        return found


def _read(name: str, file: bytes) -> Template:
    try:
        read = msgspec.json.decode(file, type=_File)
        template = Template(
            name=name, description=read.description, type=read.type, children=read.children
        )
        template.descriptions()
    except Rejected as error:
        places = "; ".join(f"{one.path}: {one.message}" for one in error.errors)
        raise SetupError(f"templates/{name}.json is no template: {places or error}") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SetupError(f"templates/{name}.json is no template: {error}") from error
    levels = [level for _, level in _walk(template.children)]
    if len(levels) > MAX_BUCKETS or max(levels, default=0) > MAX_LEVELS:
        raise SetupError(
            f"templates/{name}.json makes more than {MAX_BUCKETS} buckets, or more than"
            f" {MAX_LEVELS} levels of them."
        )
    return template


def _walk(nodes: Sequence[Node], level: int = 1) -> Iterator[tuple[Node, int]]:
    """The nodes and all below them, every one before its children, with their levels from 1."""
    for node in nodes:
        yield node, level
        yield from _walk(node.children, level + 1)


def _new_buckets(nodes: Sequence[Node], parent_id: str, *, keyed: bool) -> tuple[NewBucket, ...]:
    made: list[NewBucket] = []
    for index, node in enumerate(nodes):
        bucket_id = id_of(parent_id, str(index)) if keyed else new_id()
        children = _new_buckets(node.children, bucket_id, keyed=keyed)
        made.append(NewBucket(bucket_id, node.description(), children))
    return tuple(made)
