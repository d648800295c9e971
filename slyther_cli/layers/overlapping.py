"""Networks that see a bounded stretch on either side, on a signal that comes in pieces."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, cat


class Overlapping:
    """[batch, channels, n] -> [batch, out_channels, m], piece by piece; the pieces together equal the whole.

    Of every ``unit`` inputs the network makes ``made`` outputs, which depend on ``margin`` inputs on either
    side (a multiple of ``unit``). The margin is computed anew for each piece and thrown away.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], out_channels: int, unit: int, made: int, margin: int
    ):
        self.network, self.out_channels = network, out_channels
        self.unit, self.made, self.margin = unit, made, margin
        self.held: Tensor | None = None
        self.done = 0  # of the held inputs: they are there to be seen only

    def __call__(self, x: Tensor, last: bool) -> Tensor:
        """The next inputs. ``last``: no more follow, so what is held back comes out."""
        if self.held is not None:
            x = cat([self.held, x], -1)
        n, unit = x.shape[-1], self.unit
        end = -(-n // unit) * unit if last else (n - self.margin) // unit * unit
        if end <= self.done:
            self.held = x
            return x.new_zeros(len(x), self.out_channels, 0)
        y = self.network(x[..., : end + self.margin])
        y = y[..., self.done // unit * self.made : end // unit * self.made]
        kept = max(0, end - self.margin)
        self.held, self.done = x[..., kept:], end - kept
        return y
