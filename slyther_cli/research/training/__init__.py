"""Trainings: speech pools, batches, losses, the loop. One module a network: ``separation``, ``recognition``,
``speech``, ``codec``, ``hubert``."""
