"""The loops: projector, replay, workers, live fan-out. Owns what runs for as long as the process
does.

What a record means to a view or a processor is theirs; how clients are talked to is the API's.
"""
