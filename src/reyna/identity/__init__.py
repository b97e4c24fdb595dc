"""Who is calling: accounts, sessions and tokens. Owns everything personal, and its tables.

Personal data lives in SQL and never in the log, so that it can be erased. Nothing here knows of
HTTP: routes belong to `reyna.api.auth`, reading the Authorization header to `reyna.api.security`.
What a caller may do with a resource is decided where the resource is.
"""
