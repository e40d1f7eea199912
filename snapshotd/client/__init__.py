"""snapshotctl, the command line client. Knows the API only."""
