"""The judge: what a JSON Schema may be, what is valid under one, what a new version breaks.

Owns drafts, limits and comparison, and the processes in which what a stranger wrote is judged. Who
registered what, and where it is stored, belongs to `reyna.commands`.
"""
