"""Tests of what the benchmarks tell of their figures."""
