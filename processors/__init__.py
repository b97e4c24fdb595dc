"""Derivations, one a module; each is found by its entry point in the group `reyna.processors`.

A module whose name begins with an underscore is a part of the others, not a processor. Depends on
reyna, never the reverse.
"""
