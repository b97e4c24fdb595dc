"""The log: one JetStream stream that holds every event. Owns subjects, records, append, read,
follow.

nats-py is used here and nowhere else. What events mean is the domain's; who follows them, the
runtime's.
"""
