"""Benchmarks: what they measure, on what and beside which peer is in README.md."""
