"""Measurements of our own: speed, memory, where crossovers lie. Only commands import this."""
