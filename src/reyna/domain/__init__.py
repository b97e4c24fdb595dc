"""Events and rules, pure. Owns what may happen to blobs, buckets, schemas and processors.

Nothing here waits, reads a clock or talks to a server: time and ids are arguments, state is folded
from events, and a rule either decides new events or raises one of `reyna.errors`.
"""
