"""Training of n-gram language models from plain text."""
