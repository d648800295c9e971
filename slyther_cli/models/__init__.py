"""The networks, one file each, readable from top to bottom like the paper's figure.

``registry`` names them and their published sizes. A model file imports layers and nothing above; how a whole
recording is walked (``longform``) and where weights come from (``checkpoints``) is not its business.
"""
