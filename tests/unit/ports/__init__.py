"""What the ports keep and write, each by itself."""
