"""The root of the errors after which a program does not begin."""


class Unusable(Exception):
    """What a program needs of the world cannot be used as it is. The text says what is wrong, and what to do."""
