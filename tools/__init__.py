"""Tools for those who work on snapshotd; the product never imports them."""
