"""The demonstration that 'make demo' runs: the main job on real parts, checked against the host's ground truth."""
