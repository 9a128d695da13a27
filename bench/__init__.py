"""Benchmarks against what people use today: each prints a ratio to a peer measured in the same run."""
