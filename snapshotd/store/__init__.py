"""The event log on SQLite, with its codec and topics. Never decides anything about a VM."""
