"""The JSON Schemas that ship, one file each: `{name}.v{N}.json`. A released version is never
edited. Reads those of any package that keeps its own in the same way.
"""

from __future__ import annotations

import re
from importlib.resources import files

import msgspec

_FILE = re.compile(r"(?P<name>[a-z][a-z0-9-]{0,63})\.v(?P<version>[1-9][0-9]*)\.json\Z")


class Shipped(msgspec.Struct, frozen=True):
    """A schema that comes with the program; `definition` is the file as it stands."""

    schema_id: str
    name: str
    version: int
    description: str
    definition: bytes


class _Described(msgspec.Struct):
    description: str


def load(package: str = __name__) -> list[Shipped]:
    """All in a package, by id. Raises ValueError for a file whose name is not of the form, or that
    does not describe itself.
    """
    found: list[Shipped] = []
    for file in files(package).iterdir():
        if not file.name.endswith(".json"):
            continue
        named = _FILE.match(file.name)
        if named is None:
            raise ValueError(f"{file.name} in {package} is not named like text-input.v1.json")
        definition = file.read_bytes()
        description = msgspec.json.decode(definition, type=_Described).description
        name, version = named["name"], int(named["version"])
        found.append(Shipped(f"{name}-v{version}", name, version, description, definition))
    return sorted(found, key=lambda one: one.schema_id)
