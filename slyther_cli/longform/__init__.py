"""Whole recordings, exactly, in constant memory: n bidirectional layers in n + 1 alternating sweeps over a
tape.

``sweep`` is the engine and knows layers by an interface (``SweepLayer``), no model by name; ``tape`` is where
activations lie between two sweeps, ``prefetch`` copies them beside a GPU's computation; ``plan`` chooses the
tape's place from the memory limit; ``separation`` joins the engine to a separation network's two ends. Audio
files and results are not its business (``jobs`` and the products). See docs/longform.md.
"""

from slyther_cli.longform.plan import Plan
from slyther_cli.longform.separation import plan_separation, separate_whole

__all__ = ["Plan", "plan_separation", "separate_whole"]
