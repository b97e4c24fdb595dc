"""What a plugin's own tests are written with: given, when, then for projections and processors, and
a running studio.

`reyna.testing.fixtures` has the studio as pytest fixtures; nothing else here needs pytest.
"""

from __future__ import annotations

from reyna.testing.attempts import Attempted, attempt
from reyna.testing.histories import History, time_of
from reyna.testing.studios import Studio, derived_from, running_studio
from reyna.testing.views import Folded, folded, given

__all__ = [
    "Attempted",
    "Folded",
    "History",
    "Studio",
    "attempt",
    "derived_from",
    "folded",
    "given",
    "running_studio",
    "time_of",
]
