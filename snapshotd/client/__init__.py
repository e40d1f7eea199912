"""snapshotctl, the command line client. It uses the API and nothing else of snapshotd."""
