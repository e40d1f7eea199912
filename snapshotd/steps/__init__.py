"""What a step can ask of a host: one file per action, with its values, how it is judged and undone, and its words."""
