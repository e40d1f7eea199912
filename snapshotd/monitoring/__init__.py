"""What the daemon and the executor show of themselves to those who watch them: metrics and spans. Decides nothing."""
