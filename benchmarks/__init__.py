"""Benchmarks: `python -m benchmarks.<name>` prints its ratios."""
