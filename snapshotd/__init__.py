"""snapshotd takes, reverts and deletes snapshots of Hyper-V VMs, and never loses track of one."""
