"""Many recordings with one model: what separating and transcribing have in common.

``options`` is what the options of a product are: a dataclass that the command fills and the job obeys.
``batch`` runs a job over its inputs; ``inputs`` says which ones and in which order (manifests, shards),
``locks`` who works on an output and what failed; ``pool``, ``worker`` and ``cluster`` share the inputs among
processes and machines; ``resume`` finds the work of a killed job; ``setup`` picks the model and the device
and has the words for a full memory; ``results`` is what there is to say at the end. Jobs report through a
callback of plain dictionaries and never print.

What may not live here: products by name, parsing of the command line, terminals. This file imports nothing.
"""
