"""snapshotctl, the command line client. Knows the API only."""

import os

# gRPC reads it when it is imported. What it would write to stderr is told by our own errors.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
