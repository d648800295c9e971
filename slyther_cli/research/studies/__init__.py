"""The papers' studies and benchmarks: speed, memory, quality by length, mutual information."""
