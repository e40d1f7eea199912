"""The whole product as processes: daemon, executor and simulated host."""
