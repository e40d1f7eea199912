"""Protocols of what the core needs of the world: the event log, the views, hosts, the clock, ids. No implementation."""
