"""What snapshotd can do to a VM: one file per kind, with its steps, how each is judged, and how it is undone."""
