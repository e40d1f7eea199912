"""The executor: attaches to the server and runs commands on hosts. Never decides what to do."""
