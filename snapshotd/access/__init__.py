"""Who callers are, and what they may do. Knows nothing of gRPC."""
