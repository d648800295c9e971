"""Models on disk: our format, the catalogue of published weights, their download, the import of others'
folders.

A model is a folder with ``config.json``, ``model.safetensors`` and perhaps ``CARD.md``. ``config``,
``places`` and ``catalogue`` need no torch, so that listing models is quick; ``store`` saves and loads,
matrices in eight bits by ``packed``; ``average`` and ``shrink`` make models of models; ``download`` pulls;
``speechbrain`` is the only file that may unpickle, after its own check and under ``weights_only``.

What may not live here: networks (``models``), printing, anything that knows what a model is used for.
"""
