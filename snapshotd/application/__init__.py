"""Load, decide, append; and next_action, the one place that says what happens next. No I/O of its own."""
