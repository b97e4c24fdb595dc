"""The public face: HTTP commands, the live socket, problems, security, health.

Owns how requests look and answers are put. What they mean is the commands', the projections' and
the hub's.
"""
