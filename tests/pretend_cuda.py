"""A CUDA device that is not there: tensors that say they are on it, whose values lie on the CPU.

What a GPU would refuse is refused: an operation between tensors of both places, ``numpy()`` of one on the
device. Kernels and memory of a device are not pretended.

    with pretend_cuda():
        model.to("cuda")(torch.zeros(3, device="cuda"))
"""

import contextlib
import warnings

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map

from slyther_cli import scan

CUDA = torch.device("cuda:0")
aten = torch.ops.aten
MOVES = {aten.copy_.default, aten._to_copy.default}
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}  # by indices on either
LENGTHS = {
    aten._ctc_loss.Tensor: (2, 3),
    aten._ctc_loss_backward.Tensor: (3, 4),
}  # arguments that lie on the CPU


class OnDevice(torch.Tensor):
    """``there`` has the values. To torch's core it is a tensor on "meta", a device that needs no driver."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device, is_cuda, is_cpu, is_meta = CUDA, True, False, False

    @staticmethod
    def __new__(cls, there):
        layout = {"dtype": there.dtype, "device": "meta"}
        with torch.inference_mode(False):  # torch's core cannot give such tensors a view there
            return torch.Tensor._make_wrapper_subclass(
                cls, there.size(), there.stride(), there.storage_offset(), **layout
            )

    def __init__(self, there):
        self.there = there

    def __repr__(self):
        return f"OnDevice({self.there})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """What an operation of torch's core gives, computed by the values; refused where the places are mixed."""
    seen, here = {}, []

    def taken(x):
        if isinstance(x, OnDevice):
            seen[id(x.there)] = x
            return x.there
        if isinstance(x, torch.Tensor) and x.dim():
            here.append(x)
        return x

    values, named = tree_map(taken, args), tree_map(taken, kwargs)
    here = [x for x in here if not any(x is args[i] for i in LENGTHS.get(func, ()))]
    if func in INDEXED:
        mixed = bool(seen) and not isinstance(args[0], OnDevice)
    else:
        mixed = bool(seen and here) and func not in MOVES
    if mixed:
        raise RuntimeError(f"{func}: some tensors are on cuda:0, others on the CPU")
    wanted = "cuda" if seen else "cpu"
    if named.get("device") is not None:  # the core makes scalars of its own where a tensor is
        wanted = "cuda" if named["device"].type == "meta" else "cpu"
        named["device"] = torch.device("cpu")
    out = func(*values, **named)
    if func is aten.copy_.default:
        return args[0]

    def given(x):
        if id(x) in seen:  # changed in place
            return seen[id(x)]
        return OnDevice(x) if wanted == "cuda" and isinstance(x, torch.Tensor) else x

    return tree_map(given, out)


class _Computing(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def on_device(x):
    return x if isinstance(x, OnDevice) else Moved.apply(x)


def spectra(x, n_fft, hop_length, *lengths, window, pad_mode="reflect", **others):
    """torch.stft, which turns a tensor around in place: what a wrapper cannot follow."""
    padded = torch.nn.functional.pad(x[:, None], (n_fft // 2, n_fft // 2), pad_mode)[:, 0]
    return torch.fft.rfft(padded.unfold(1, n_fft, hop_length) * window).transpose(1, 2)


class Moved(torch.autograd.Function):
    """From the CPU to the device, and the gradient back."""

    @staticmethod
    def forward(ctx, x):
        return OnDevice(x.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient.there


class _Placing(TorchFunctionMode):
    """Takes the device out of what is asked of torch, and puts the results there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", "")
        first = args[0] if args else None
        if name in ("numpy", "__array__") and isinstance(first, OnDevice):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if name == "tolist" and isinstance(first, OnDevice):
            return first.there.tolist()
        if name in ("pin_memory", "record_stream"):
            return first
        if name == "cuda":
            return on_device(first)
        if name == "new_tensor" and isinstance(first, OnDevice):
            return on_device(torch.tensor(args[1], dtype=first.dtype))
        if name == "cpu":
            return self._to(first, "cpu")
        if func is torch.Tensor.to or (name == "as_tensor" and isinstance(first, torch.Tensor)):
            return self._to(*args, **kwargs)
        if name == "stft" and isinstance(first, OnDevice):
            return spectra(*args, **kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "meta":  # shapes are asked for, no values
            with _disable_current_modes():
                return func(*args, **kwargs)
        wanted = device is not None and torch.device(device).type == "cuda"
        if wanted:
            kwargs["device"] = "cpu"
            if isinstance(first, OnDevice):  # new_zeros and the like: where the tensor is
                del kwargs["device"]
        out = func(*args, **kwargs)
        return on_device(out) if wanted and isinstance(out, torch.Tensor) else out

    @staticmethod
    def _to(x, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
        for arg in args:
            if isinstance(arg, torch.Tensor):
                dtype, device = arg.dtype, arg.device
            elif isinstance(arg, torch.dtype):
                dtype = arg
            elif isinstance(arg, (str, torch.device)):
                device = arg
        place = x.device.type if device is None else torch.device(device).type
        x = x if dtype is None else x.to(dtype=dtype) if x.dtype != dtype else x
        if place == "cuda":
            return on_device(x)
        if isinstance(x, OnDevice):
            return torch.ops.aten._to_copy(x, device=torch.device("cpu"))
        return x


@contextlib.contextmanager
def pretend_cuda():
    with warnings.catch_warnings(), scan.use_backend("reference"), _Computing(), _Placing():
        warnings.simplefilter("ignore", UserWarning)  # autocast: there is no CUDA
        yield
