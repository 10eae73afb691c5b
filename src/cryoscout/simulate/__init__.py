"""Simulated sessions whose truth is known, for tests, benchmarks and training."""
