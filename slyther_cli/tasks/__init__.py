"""What a job is, from audio file to result files: the Python API that the commands use.

``separation`` separates recordings into one file a speaker; ``transcription`` writes down what is said, with
a ``recogniser``; ``batch`` is the job over many recordings that both are, with ``listing`` (which ones, in
which order), ``claims`` (locks on outputs, what failed), ``pool``, ``worker`` and ``cluster`` (several
processes, several machines); ``setup`` is what every task needs before it computes: the model, the device,
the words for a full memory; ``resuming`` finds the work of a killed job; ``results`` is what there is to say
at the end; ``streams`` keeps streams of samples together. Tasks report through a callback of plain
dictionaries and never print.

What may not live here: options parsing, terminals, networks. This file imports nothing.
"""
