"""Kinds of operations, each by itself."""
