"""Who callers are and how they prove it. Knows nothing of gRPC, and decides on no request."""
