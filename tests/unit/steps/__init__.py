"""Actions of steps, each by itself."""
