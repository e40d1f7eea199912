"""The client's own parts, without a server."""
