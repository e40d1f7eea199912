"""The pure core: ids, states, events, commands and their rules. Nothing here reads a clock or does I/O."""
