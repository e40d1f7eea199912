"""WinRM sessions and the host script. The only package that talks to a Hyper-V host."""
