"""The builtin engine of the simulated host."""
