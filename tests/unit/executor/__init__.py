"""The parts of the executor."""
