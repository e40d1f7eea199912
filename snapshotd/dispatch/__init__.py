"""Who is fed for which host, deadlines, re-sends, watchdog. Sans-I/O: time and answers come in, sends go out."""
