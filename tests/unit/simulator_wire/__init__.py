"""The wire of the simulated host, against real pywinrm."""
