"""What a job is, from audio file to result files: the Python API that the commands use.

``separation`` separates recordings into one file a speaker; ``setup`` is what every task needs before it computes: the
model, the device, the words for a full memory. Tasks report through a callback of plain dictionaries (``events``) and
never print.

What may not live here: options parsing, terminals, networks. This file imports nothing.
"""
