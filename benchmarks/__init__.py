"""Benchmarks: `python -m benchmarks` prints all ratios in one table, `python -m benchmarks.fcls` its own."""
