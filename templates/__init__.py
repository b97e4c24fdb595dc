"""Small trees to begin with, one file each: `{name}.json`. What such a file may say is checked by
`reyna.commands.templates`.
"""

from __future__ import annotations

from importlib.resources import files


def load() -> dict[str, bytes]:
    """The files as they stand, by the names of their templates."""
    found = (file for file in files(__name__).iterdir() if file.name.endswith(".json"))
    return {file.name.removesuffix(".json"): file.read_bytes() for file in found}
