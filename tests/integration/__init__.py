"""Backend of the product against real sockets and processes, on loopback."""
