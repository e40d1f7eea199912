"""The simulated host's model, without a wire."""
