"""ReYNa Studio: an event-sourced backend for people who make things.

The log is the truth; everything else is a function of it. `docs/architecture.md` draws the rooms.
"""

__version__ = "0.1.0"
