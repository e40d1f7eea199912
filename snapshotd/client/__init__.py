"""snapshotctl, the command line client. It uses the API and nothing else of snapshotd."""

import os

# gRPC reads this when it is imported. Our own errors tell what it would write to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
