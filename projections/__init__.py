"""Views folded from the log: one module each, with its tables, its fold and its GET routes.

They stand on `reyna` and never on one another; what answers a query here can be thrown away and
rebuilt.
"""
