"""What a selective scan is given, as one value that every backend takes."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ScanInputs(NamedTuple):
    """The sequences, parameters and first state of a scan; slices with a channel stride of 1 are not copied.

    The tensors come first, so that ``autograd.Function.apply(*inputs)`` sees them one by one.
    """

    u: Tensor
    """The input [batch, length, channels]."""
    delta: Tensor
    """The step before bias and softplus [batch, length, channels]."""
    A: Tensor
    """The decay [channels, states], negative."""
    B: Tensor
    """How the input enters the state [batch, length, states]."""
    C: Tensor
    """How the state is read [batch, length, states]."""
    D: Tensor | None = None
    """The skip [channels]; None for none."""
    z: Tensor | None = None
    """The gate before SiLU [batch, length, channels]; None for none."""
    delta_bias: Tensor | None = None
    """Added to ``delta`` [channels]; None for none."""
    initial_state: Tensor | None = None
    """The state before the first frame walked [batch, channels, states]; zeros if None."""
    delta_softplus: bool = True
    """Whether the step is softplus(delta + delta_bias), or that sum itself."""
    reverse: bool = False
    """Walk from the last frame to the first."""

    @property
    def tensors(self) -> tuple[Tensor | None, ...]:
        """The nine tensors, in order."""
        return self[:9]

    @property
    def wants_gradient(self) -> bool:
        return any(t is not None and t.requires_grad for t in self.tensors)

    def check(self) -> None:
        """Raises ValueError on shapes that do not fit."""
        if self.u.dim() != 3 or self.A.dim() != 2:
            shapes = tuple(self.u.shape), tuple(self.A.shape)
            raise ValueError(f"selective_scan: u {shapes[0]} must be 3-d and A {shapes[1]} 2-d")
        (batch, length, dim), states = self.u.shape, self.A.shape[1]
        frames, reads = (batch, length, dim), (batch, length, states)
        require("selective_scan", "delta", self.delta, frames)
        require("selective_scan", "A", self.A, (dim, states))
        require("selective_scan", "B", self.B, reads)
        require("selective_scan", "C", self.C, reads)
        require("selective_scan", "D", self.D, (dim,))
        require("selective_scan", "z", self.z, frames)
        require("selective_scan", "delta_bias", self.delta_bias, (dim,))
        require("selective_scan", "initial_state", self.initial_state, (batch, dim, states))


def require(what: str, name: str, tensor: Tensor | None, shape: tuple[int, ...]) -> None:
    """Raises ValueError if the tensor ``name`` of ``what`` is there and has another shape."""
    if tensor is not None and tensor.shape != shape:
        raise ValueError(f"{what}: {name} is {tuple(tensor.shape)} and must be {shape}")
