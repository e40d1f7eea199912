"""snapshotd takes, reverts and deletes snapshots of Hyper-V VMs, and never loses track of one."""

import os

# gRPC reads this when it is imported. Our own errors tell what it would write to stderr, where each line is one of our
# log's: otherwise whoever connects without TLS writes into it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
