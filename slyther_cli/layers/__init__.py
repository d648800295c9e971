"""Network layers: Mamba and BiMamba with their carried state, and the encoder/decoder of TasNet.

A layer knows its parameters and its recurrence, not the model around it nor where the recording is stored.
Every layer offers ``forward`` (a whole batch, for training) and a form with a state in and out, which the
sweep engine (``longform``) and live use walk segment by segment. Only ``scan`` is imported from here
downwards.
"""
