"""Views that can be dropped and rebuilt from the log. Nothing here acts on the world."""
