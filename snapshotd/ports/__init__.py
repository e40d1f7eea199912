"""What the core and the server need of the world, as protocols: the event log, the views, the clock, ids.

`plain.py` is no port: dataclasses as JSON values, which the log and the views both keep.
"""
