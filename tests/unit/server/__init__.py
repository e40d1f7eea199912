"""The server's own parts, without a network."""
