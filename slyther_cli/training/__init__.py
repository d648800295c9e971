"""Training and evaluation: speech pools and mixtures, losses, the loop. Stands beside ``tasks``; only
commands import it. Nothing here is needed to use a model."""
