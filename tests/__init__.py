"""Tests of snapshotd, by kind."""
