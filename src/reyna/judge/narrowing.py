"""Narrowing: the places where a new schema may refuse what an old one accepts.

The walk goes down both definitions side by side. The old side is a conjunction (all its schemas
hold), so each constraint of the new side is kept if one of them implies it. It errs on the safe
side: no finding means that nothing valid becomes invalid, but for new optional properties. What is
said of plain values is `reyna.judge.values`, of objects and lists `reyna.judge.members`.
"""

from __future__ import annotations

from collections.abc import Sequence

from reyna.errors import FieldError
from reyna.judge.definitions import Json, Resources, Unforeseeable, resolve
from reyna.judge.dialect import Dialect
from reyna.judge.members import items_broken, properties_broken
from reyna.judge.sides import Conjunct, Found, Plain, Schema, many, same
from reyna.judge.values import bounds_broken, kinds_possible, values_broken

STEPS = 20_000

_UNDECIDED = ("$dynamicRef", "$recursiveRef", "if", "unevaluatedItems", "unevaluatedProperties")


class TooComplex(Exception):
    """The comparison takes more steps than are worth it."""


class Narrowing:
    """One comparison: the draft of both sides, the registered schemas of each, the place where the
    new definition stands, and the steps left. A strict one has no mercy with new properties.
    """

    def __init__(
        self,
        dialect: Dialect,
        old: Resources,
        new: Resources,
        path: str,
        *,
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self._dialect = dialect
        self._old = old
        self._new = new
        self._path = path
        self.steps = STEPS
        self._under_way: set[tuple[frozenset[int], int]] = set()

    def narrowed(self, olds: Sequence[Schema], new: Schema, path: str) -> Found:
        """Where `new`, at `path`, may refuse a value that all of `olds` accept.

        Raises TooComplex.
        """
        return self.compare(self._apart(olds, self._old), new, path)

    def compare(self, olds: list[Conjunct], new: Schema, path: str) -> Found:
        """The same, for an old side that is told apart already."""
        self.steps -= 1
        if self.steps < 0:
            raise TooComplex
        plain = self._dialect.plain(new.value)
        possible = kinds_possible([one.plain for one in olds])
        if not possible or not plain:
            return []
        key = (frozenset(id(one.source) for one in olds), id(new.value))
        if key in self._under_way:
            return []  # asked again inside of itself: it holds here if it holds there
        self._under_way.add(key)
        try:
            found = self._constraints(olds, new, plain, possible, path)
            split = self._split(olds, new, path) if found else None
        finally:
            self._under_way.discard(key)
        return found if split is None else split

    def _split(self, olds: list[Conjunct], new: Schema, path: str) -> Found | None:
        """The findings of each alternative of the old side by itself; None if it has none."""
        for index, one in enumerate(olds):
            for keyword in ("anyOf", "oneOf"):
                if keyword not in one.plain:
                    continue
                rest = {k: v for k, v in one.plain.items() if k != keyword}
                others = [
                    *olds[:index],
                    Conjunct(rest, one.root, one.source),
                    *olds[index + 1 :],
                ]
                found: dict[FieldError, None] = {}
                for branch in many(one.plain[keyword]):
                    apart = self._apart([one.inner(branch)], self._old)
                    found |= dict.fromkeys(self.compare(others + apart, new, path))
                return list(found)
        return None

    def _constraints(
        self, olds: list[Conjunct], new: Schema, plain: Plain, possible: frozenset[str], path: str
    ) -> Found:
        if "$ref" in plain:
            return self._reference(olds, new, plain, path)
        said = [one.plain for one in olds]
        found = [
            FieldError(f"{path}/{keyword}", keyword, sentence)
            for keyword, sentence in (
                *values_broken(said, plain, possible),
                *bounds_broken(said, plain, possible),
            )
        ]
        if "object" in possible:
            found += properties_broken(self, olds, new, plain, path)
        if "array" in possible:
            found += items_broken(self, olds, new, plain, path)
        return found + self._combined(olds, new, plain, path)

    def _reference(self, olds: list[Conjunct], new: Schema, plain: Plain, path: str) -> Found:
        target = plain["$ref"]
        try:
            value, root = resolve(target, new.root, self._new)
        except Unforeseeable:
            if any(same(one, "$ref", new, plain) for one in olds):
                return []
            sentence = "whether what it refers to accepts the same cannot be told."
            return [FieldError(f"{path}/$ref", "$ref", sentence)]
        local = isinstance(target, str) and target.startswith("#") and new.root is root
        place = self._path + str(target)[1:] if local else f"{path}/$ref"
        found = self.compare(olds, Schema(value, root), place)
        rest = {k: v for k, v in plain.items() if k != "$ref"}
        return found + (self.compare(olds, new.within(rest), path) if rest else [])

    def _combined(self, olds: list[Conjunct], new: Schema, plain: Plain, path: str) -> Found:
        found: Found = []
        for index, one in enumerate(many(plain.get("allOf"))):
            found += self.compare(olds, new.within(one), f"{path}/allOf/{index}")
        for keyword, check in (("anyOf", self._any_of), ("oneOf", self._one_of)):
            if keyword in plain and not any(same(o, keyword, new, plain) for o in olds):
                found += check(olds, new, many(plain[keyword]), path)
        if "not" in plain and not self._excluded(olds, new, plain):
            sentence = "values that were accepted may now be excluded."
            found.append(FieldError(f"{path}/not", "not", sentence))
        for keyword in _UNDECIDED:
            if keyword in plain and not _kept(olds, new, plain, keyword):
                sentence = f"whether `{keyword}` accepts the same cannot be told."
                found.append(FieldError(f"{path}/{keyword}", keyword, sentence))
        return found

    def _any_of(self, olds: list[Conjunct], new: Schema, branches: list[Json], path: str) -> Found:
        if any(not self.compare(olds, new.within(branch), path) for branch in branches):
            return []
        sentence = "none of the alternatives accepts all that was accepted."
        return [FieldError(f"{path}/anyOf", "anyOf", sentence)]

    def _one_of(self, olds: list[Conjunct], new: Schema, branches: list[Json], path: str) -> Found:
        possible = kinds_possible([one.plain for one in olds])
        kinds = []
        for branch in branches:
            apart = self._apart([new.within(branch)], self._new)
            kinds.append(kinds_possible([one.plain for one in apart]))
        for index, branch in enumerate(branches):
            others = frozenset[str]().union(*kinds[:index], *kinds[index + 1 :])
            if not possible & others and not self.compare(olds, new.within(branch), path):
                return []
        sentence = "whether exactly one alternative accepts what was accepted cannot be told."
        return [FieldError(f"{path}/oneOf", "oneOf", sentence)]

    def _excluded(self, olds: list[Conjunct], new: Schema, plain: Plain) -> bool:
        """Whether all that `not` excludes now was excluded before."""
        for one in olds:
            if "not" in one.plain:
                turned = Narrowing(self._dialect, self._new, self._old, "", strict=True)
                turned.steps = self.steps
                before = one.inner(one.plain["not"])
                kept = not turned.narrowed([new.within(plain["not"])], before, "")
                self.steps = turned.steps
                if kept:
                    return True
        return False

    def _apart(self, schemas: Sequence[Schema], resources: Resources) -> list[Conjunct]:
        """Schemas that all hold, without references and `allOf`: each said plainly by itself."""
        apart: list[Conjunct] = []
        seen: set[int] = set()
        stack = list(reversed(schemas))
        while stack:
            one = stack.pop()
            if id(one.value) in seen:
                continue
            seen.add(id(one.value))
            plain = self._dialect.plain(one.value)
            stack.extend(one.within(part) for part in many(plain.pop("allOf", None)))
            if "$ref" in plain:
                try:
                    stack.append(Schema(*resolve(plain["$ref"], one.root, resources)))
                    del plain["$ref"]
                except Unforeseeable:
                    pass  # it stays as it is and says nothing, but that it equals its equal
            apart.append(Conjunct(plain, one.root, one.value))
        return apart


def _kept(olds: list[Conjunct], new: Schema, plain: Plain, keyword: str) -> bool:
    if keyword.startswith("unevaluated"):
        return plain[keyword] is True or plain[keyword] == {}
    group = ("if", "then", "else") if keyword == "if" else (keyword,)
    return any(all(same(one, k, new, plain) for k in group) for one in olds)
