"""Commands: load a boundary, decide by the domain's rules, append under a guard, retry on a
conflict.

Owns everything that changes a blob, bucket, schema or processor. Who the caller is and how a
request looked is the API's; what may happen is the domain's.
"""
