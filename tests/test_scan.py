"""Every backend of the scan and of the convolution against the float64 reference, forward and backward."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli import scan
from slyther_cli.errors import DeviceError
from slyther_cli.scan import ScanInputs, cpu, mamba_ssm, reference

try:
    from slyther_cli.scan import triton_scan
except ImportError:
    triton_scan = None

needs_native = pytest.mark.skipif(bool(cpu.why_not), reason=cpu.why_not)
needs_interpreter = pytest.mark.skipif(
    triton_scan is None or not triton_scan.INTERPRETED, reason="triton is not there, or compiles for a GPU"
)
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")


@dataclass(frozen=True)
class Case:
    batch: int = 1
    length: int = 20
    dim: int = 5
    states: int = 4
    D: bool = True
    z: bool = True
    bias: bool = True
    softplus: bool = True
    state: bool = True
    reverse: bool = False
    strided: bool = False
    seed: int = 0
    dtype: torch.dtype = torch.float32

    def tensors(self) -> dict[str, torch.Tensor | None]:
        g = torch.Generator().manual_seed(self.seed)
        b, l, d, n = self.batch, self.length, self.dim, self.states

        def seq(*widths: int) -> list[torch.Tensor]:
            """Sequences of these widths: slices of one tensor if strided."""
            if self.strided:
                joint = torch.randn(b, l, sum(widths) + 3, generator=g).to(self.dtype)
                return list(joint.split([*widths, 3], -1)[:-1])
            return [torch.randn(b, l, w, generator=g).to(self.dtype) for w in widths]

        u, z = seq(d, d)
        delta, B, C = seq(d, n, n)
        if not self.softplus:
            delta = delta.abs()
        bias = torch.randn(d, generator=g)
        return {
            "u": u,
            "delta": delta,
            "A": -torch.rand(d, n, generator=g).mul(3).exp(),
            "B": B,
            "C": C,
            "D": torch.randn(d, generator=g) if self.D else None,
            "z": z if self.z else None,
            "delta_bias": (bias if self.softplus else bias.abs()) if self.bias else None,
            "initial_state": torch.randn(b, d, n, generator=g) if self.state else None,
        }


def cases(lengths, dims=(1, 3, 8, 17, 32, 40), states=(1, 4, 5, 16, 64)):
    flags = {f: st.booleans() for f in ("D", "z", "bias", "softplus", "state", "reverse", "strided")}
    return st.builds(
        Case,
        batch=st.sampled_from((1, 2, 3)),
        length=st.sampled_from(lengths),
        dim=st.sampled_from(dims),
        states=st.sampled_from(states),
        seed=st.integers(0, 2**16),
        **flags,
    )


def leaves(tensors, dtype=None):
    """Detached copies that need gradients; a strided slice stays one."""
    return {
        k: None if t is None else (t.detach() if dtype is None else t.detach().to(dtype)).requires_grad_()
        for k, t in tensors.items()
    }


def run(fn, tensors, softplus, reverse, dtype=None):
    """{"y", "last", and the gradient of each argument}, with fixed random cotangents."""
    args = leaves(tensors, dtype)
    y, last = fn(ScanInputs(**args, delta_softplus=softplus, reverse=reverse))
    g = torch.Generator().manual_seed(1)
    dy = torch.randn(y.shape, generator=g, dtype=torch.float64).to(y.device)
    dlast = torch.randn(last.shape, generator=g, dtype=torch.float64).to(y.device)
    ((y * dy).sum() + (last * dlast).sum()).backward()
    return {"y": y.detach(), "last": last.detach(), **{k: t.grad for k, t in args.items() if t is not None}}


def truth(tensors, softplus, reverse):
    return run(reference.selective_scan, tensors, softplus, reverse, torch.float64)


def agree(got, want, forward=2e-6, backward=2e-5, what=""):
    for name, right in want.items():
        value, limit = got[name], forward if name in ("y", "last") else backward
        assert value.shape == right.shape, (what, name)
        assert torch.isfinite(value).all(), (what, name)
        error = (value.double() - right).abs().max() / right.abs().max().clamp(min=1e-3)
        assert error <= limit, f"{what} {name}: relative error {error:.2e} > {limit:.0e}"


def over_isas(body):
    """Calls ``body`` with the name of every instruction set that this machine has, switched on."""
    before = cpu._native.isa()
    try:
        for isa in cpu._native.isas():
            cpu._native.use_isa(isa)
            body(isa)
    finally:
        cpu._native.use_isa(before)


def published_scan(
    u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False
):
    """What selective_scan_fn promises: channel-major, no initial state, a last state without gradient."""
    assert u.dtype == delta.dtype == B.dtype == C.dtype and A.dtype == torch.float32
    assert all(t is None or t.is_contiguous() for t in (u, delta, B, C, z, D, delta_bias))
    u, delta, B, C = (t.transpose(1, 2) for t in (u, delta, B, C))
    z = None if z is None else z.transpose(1, 2)
    y, last = reference.selective_scan(
        ScanInputs(u, delta, A, B, C, D, z, delta_bias, delta_softplus=delta_softplus)
    )
    return (y.transpose(1, 2), last.detach()) if return_last_state else y.transpose(1, 2)


def published_conv(x, weight, bias=None, initial_states=None, activation=None):
    """What causal_conv1d_fn promises for channel-last inputs."""
    assert x.stride(1) == 1 and x.shape[1] % 8 == 0 and x.stride(2) % 8 == 0
    assert initial_states is None or initial_states.stride(1) == 1
    past = x.new_zeros(*x.shape[:2], weight.shape[1] - 1) if initial_states is None else initial_states
    y = F.conv1d(torch.cat([past, x], 2).float(), weight[:, None], bias, groups=x.shape[1])
    return (F.silu(y) if activation == "silu" else y).to(x.dtype)


def adapted_scan(inputs):
    return mamba_ssm.selective_scan(inputs, scan_fn=published_scan)


@pytest.fixture
def small_chunks(monkeypatch):
    """Borders of chunks and tiles within a few frames, since the interpreter is slow."""
    monkeypatch.setattr(triton_scan, "CHUNK", 8)
    monkeypatch.setattr(triton_scan, "TILE", 4)
    monkeypatch.setattr(triton_scan, "CONV_ROWS", 8)


# ---- the scan ----


@needs_native
@settings(max_examples=40, derandomize=True)
@given(case=cases(lengths=(1, 2, 7, 31, 32, 33, 63, 64, 65, 97)))
def test_cpu_agrees_with_reference(case):
    tensors = case.tensors()
    want = truth(tensors, case.softplus, case.reverse)
    over_isas(
        lambda isa: agree(run(cpu.selective_scan, tensors, case.softplus, case.reverse), want, what=isa)
    )


@settings(max_examples=15, derandomize=True)
@given(case=cases(lengths=(1, 2, 33)))
def test_mamba_ssm_adapter_agrees_with_reference(case):
    tensors = case.tensors()
    want = truth(tensors, case.softplus, case.reverse)
    agree(run(adapted_scan, tensors, case.softplus, case.reverse), want, what="mamba_ssm")


TRITON_CASES = [
    Case(batch=2, length=19, dim=5, states=5),
    Case(length=16, dim=40, states=16, reverse=True, strided=True),
    Case(length=9, dim=33, states=64, z=False, state=False, reverse=True),
    Case(length=1, dim=1, states=1, D=False, bias=False),
    Case(length=8, dim=17, states=4, D=False, z=False, bias=False, state=False, softplus=False),
    Case(batch=3, length=17, dim=3, states=1, reverse=True, softplus=False, strided=True),
    Case(length=10, dim=8, dtype=torch.bfloat16),
]


@needs_interpreter
@pytest.mark.parametrize("case", TRITON_CASES, ids=lambda c: f"L{c.length}D{c.dim}N{c.states}")
def test_triton_agrees_with_reference(case, small_chunks):
    tensors = case.tensors()
    got = run(triton_scan.selective_scan, tensors, case.softplus, case.reverse)
    rough = {"forward": 1e-2, "backward": 2e-2} if case.dtype == torch.bfloat16 else {}
    agree(got, truth(tensors, case.softplus, case.reverse), what="triton", **rough)


@needs_interpreter
def test_triton_compiles_for_no_length():
    assert triton_scan._chunk(1) == triton_scan._chunk(64) == triton_scan.CHUNK
    for length in (5000, 30_000, 3_600_000):
        chunk = triton_scan._chunk(length)
        assert chunk % triton_scan.TILE == 0 and length <= chunk * chunk <= 4 * length
        assert length // chunk < 65_535  # the limit of a launch grid


@pytest.mark.parametrize("backend", ["cpu", "mamba_ssm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_inputs_keep_a_float32_state(backend, dtype):
    if backend == "cpu" and cpu.why_not:
        pytest.skip(cpu.why_not)
    case = Case(batch=2, length=40, dim=17, states=16, strided=True, dtype=dtype)
    tensors = case.tensors()
    got = run(cpu.selective_scan if backend == "cpu" else adapted_scan, tensors, True, False)
    want = truth(tensors, True, False)
    assert got["y"].dtype == got["u"].dtype == dtype and got["last"].dtype == got["A"].dtype == torch.float32
    agree({"last": got["last"]}, {"last": want["last"]}, forward=2e-6)
    agree(got, want, forward=1e-2, backward=2e-2)


@needs_native
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cut", [1, 31, 32, 50, 76])
def test_cpu_split_equals_whole_bit_for_bit(cut, reverse):
    case = Case(batch=2, length=77, dim=21, states=5, seed=cut)
    t = case.tensors()
    seqs, h0 = ("u", "delta", "B", "C", "z"), t["initial_state"]

    def part(piece, state):
        args = {k: v[:, piece] if k in seqs else v for k, v in t.items()} | {"initial_state": state}
        return cpu.selective_scan(ScanInputs(**args, reverse=reverse))

    def check(isa):
        whole, last = part(slice(None), h0)
        pieces = [slice(0, cut), slice(cut, None)]
        first, state = part(pieces[reverse], h0)
        second, state = part(pieces[not reverse], state)
        joined = torch.cat([second, first] if reverse else [first, second], 1)
        assert torch.equal(joined, whole) and torch.equal(state, last), isa

    over_isas(check)


@needs_native
def test_cpu_forward_does_not_depend_on_threads():
    t = Case(batch=2, length=70, dim=100, states=16).tensors()
    x, w, b = t["u"], torch.randn(100, 4), torch.randn(100)
    before = torch.get_num_threads()

    def check(isa):
        results = []
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            y, last = cpu.selective_scan(ScanInputs(**t))
            grads = run(cpu.selective_scan, t, True, False)
            results.append((y, last, cpu.causal_conv(x, w, b, None, False, True), grads["u"], grads["A"]))
        for other in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True)), isa

    try:
        over_isas(check)
    finally:
        torch.set_num_threads(before)


def extreme_tensors():
    t = Case(batch=1, length=40, dim=16, states=4).tensors()
    t["delta"] = (
        torch.tensor([1e4, 100.0, 25.0, -0.0, -5.0, -20.0, -80.0, -200.0]).repeat(2).expand(1, 40, 16)
    )
    t["delta"] = t["delta"].contiguous()
    t["delta"][:, 10:20] = -3.0
    t["delta_bias"] = torch.zeros(16)
    t["A"] = torch.tensor([-1e6, -1.0, -1e-8, -0.0]).expand(16, 4).contiguous()
    t["u"][0, ::3] = -0.0
    t["z"][0, ::4] = -500.0
    t["z"][0, ::5] = 500.0
    return t


@pytest.mark.parametrize("reverse", [False, True])
def test_extreme_values(reverse):
    t = extreme_tensors()
    want = truth(t, True, reverse)

    def check(fn, what):
        got = run(fn, t, True, reverse)
        agree(got, want, 2e-6, 2e-5, what=what)
        for name in ("y", "u"):  # no channel's error may hide behind another's size
            error = (got[name] - want[name]).abs().amax((0, 1)) / want[name].abs().amax((0, 1)).clamp(
                min=1e-6
            )
            assert error.max() < 2e-5, (what, name, error)

    check(reference.selective_scan, "reference")
    check(adapted_scan, "mamba_ssm")
    if not cpu.why_not:
        over_isas(lambda isa: check(cpu.selective_scan, isa))


@needs_interpreter
def test_extreme_values_triton(small_chunks):
    t = {k: v[:, 6:14] if k in ("u", "delta", "B", "C", "z") else v for k, v in extreme_tensors().items()}
    agree(
        run(triton_scan.selective_scan, t, True, False), truth(t, True, False), 1e-5, 1e-4, what="triton"
    )  # the widest range of steps lies on both sides of the chunk's border


@pytest.mark.parametrize("reverse", [False, True])
def test_reference_gradcheck(reverse):
    t = leaves(Case(batch=2, length=3, dim=2, states=2).tensors(), torch.float64)

    def fn(*args):
        return reference.selective_scan(ScanInputs(*args, reverse=reverse))

    assert torch.autograd.gradcheck(fn, [t[k] for k in NAMES])

    def conv(x, w, b, past):
        return reference.causal_conv(x, w, b, past, reverse, True)

    shapes = ((2, 4, 3), (3, 3), (3,), (2, 2, 3))
    args = [torch.randn(s, dtype=torch.float64).requires_grad_() for s in shapes]
    assert torch.autograd.gradcheck(conv, args)


# ---- the convolution ----


def conv_case(batch, length, dim, width, strided=False, state=True, bias=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, length, dim + 8 if strided else dim, generator=g)[..., :dim]
    past = torch.randn(batch, width - 1, dim, generator=g) if state else None
    return {
        "x": x,
        "weight": torch.randn(dim, width, generator=g),
        "bias": torch.randn(dim, generator=g) if bias else None,
        "initial_state": past,
    }


def run_conv(fn, tensors, reverse, silu, dtype=None):
    args = leaves(tensors, dtype)
    y = fn(*args.values(), reverse, silu)
    g = torch.Generator().manual_seed(1)
    (y * torch.randn(y.shape, generator=g, dtype=torch.float64)).sum().backward()
    return {"y": y.detach(), **{k: t.grad for k, t in args.items() if t is not None}}


def adapted_conv(*args):
    return mamba_ssm.causal_conv(*args, conv_fn=published_conv)


@settings(max_examples=30, derandomize=True)
@given(
    length=st.sampled_from((1, 2, 3, 4, 31, 33)),
    dim=st.sampled_from((1, 5, 8, 16, 24, 33)),
    width=st.integers(2, 4),
    **{f: st.booleans() for f in ("strided", "state", "bias", "reverse", "silu")},
    seed=st.integers(0, 2**16),
)
def test_conv_agrees_with_reference(length, dim, width, strided, state, bias, reverse, silu, seed):
    tensors = conv_case(2, length, dim, width, strided, state, bias, seed)
    want = run_conv(reference.causal_conv, tensors, reverse, silu, torch.float64)
    agree(run_conv(adapted_conv, tensors, reverse, silu), want, what="causal-conv1d")
    if not cpu.why_not:
        over_isas(lambda isa: agree(run_conv(cpu.causal_conv, tensors, reverse, silu), want, what=isa))


@needs_interpreter
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("length", "dim", "width", "state", "silu"),
    [(19, 70, 4, True, True), (2, 3, 3, True, False), (9, 8, 2, False, True)],
)
def test_conv_triton(length, dim, width, state, silu, reverse, small_chunks):
    tensors = conv_case(2, length, dim, width, strided=True, state=state, bias=silu)
    want = run_conv(reference.causal_conv, tensors, reverse, silu, torch.float64)
    agree(run_conv(triton_scan.causal_conv, tensors, reverse, silu), want, what="triton")


@pytest.mark.parametrize("width", [1, 2, 4, 5])
@pytest.mark.parametrize("reverse", [False, True])
def test_conv_split_equals_whole(width, reverse):
    t = conv_case(2, 23, 12, width)
    x, w, b, past = t.values()

    def part(piece, state):
        return scan.causal_conv(x[:, piece], w, b, initial_state=state, reverse=reverse)

    whole, last = part(slice(None), past)
    for cut in (1, 2, 11, 22):
        pieces = [slice(0, cut), slice(cut, None)]
        first, state = part(pieces[reverse], past)
        second, state = part(pieces[not reverse], state)
        joined = torch.cat([second, first] if reverse else [first, second], 1)
        assert torch.equal(state, last)
        if scan.conv_backend(width=width) == "cpu":
            assert torch.equal(joined, whole)
        torch.testing.assert_close(joined, whole)
    assert last.untyped_storage().nbytes() == last.numel() * 4  # no view that keeps the segment alive


# ---- the chooser ----


def test_bad_shapes_are_value_errors():
    t = Case().tensors()

    def call(**changes):
        return scan.selective_scan(ScanInputs(**{**t, **changes}))

    y, last = call()
    assert y.shape == t["u"].shape and last.shape == t["initial_state"].shape
    for name, value in t.items():
        with pytest.raises(ValueError, match=r"selective_scan"):
            call(**{name: value[..., :-1]})
        with pytest.raises(ValueError, match=r"selective_scan"):
            call(**{name: value[None]})
    x, w, b, past = conv_case(2, 6, 5, 4).values()
    for bad in ((x[0], w, b, past), (x, w[:-1], b, past), (x, w, b[:-1], past), (x, w, b, past[:, 1:])):
        with pytest.raises(ValueError, match=r"causal_conv"):
            scan.causal_conv(*bad[:3], initial_state=bad[3])


def test_no_frames_pass_the_state_through():
    case = Case(length=0)
    t = case.tensors()
    y, last = scan.selective_scan(ScanInputs(**t))
    assert y.shape == (1, 0, case.dim) and torch.equal(last, t["initial_state"])
    x, w, b, past = conv_case(1, 0, 5, 4).values()
    y, tail = scan.causal_conv(x, w, b, initial_state=past)
    assert y.shape == (1, 0, 5) and torch.equal(tail, past)


def test_chooser(monkeypatch):
    monkeypatch.delenv("SLYTHER_SCAN", raising=False)
    assert set(scan.backends()) == {"cpu", "triton", "mamba_ssm", "reference"}
    assert scan.backends()["reference"] == ""
    assert scan.live_backend("cpu") == ("reference" if cpu.why_not else "cpu")  # never the interpreter
    assert scan.live_backend("cpu", torch.float64) == "reference"
    assert scan.conv_backend("cpu", width=5) == "reference"
    with scan.use_backend("reference"):
        assert scan.live_backend("cpu") == scan.conv_backend("cpu") == "reference"
    monkeypatch.setenv("SLYTHER_SCAN", "reference")
    assert scan.live_backend("cpu") == "reference"
    monkeypatch.setenv("SLYTHER_SCAN", "abacus")
    with pytest.raises(DeviceError, match="abacus"):
        scan.live_backend("cpu")
    if not torch.cuda.is_available():
        monkeypatch.setenv("SLYTHER_SCAN", "mamba_ssm")
        with pytest.raises(DeviceError, match="no CUDA device"):
            scan.selective_scan(ScanInputs(**Case().tensors()))


@needs_native
def test_backend_must_fit_the_device(monkeypatch):
    monkeypatch.setenv("SLYTHER_SCAN", "cpu")
    with pytest.raises(DeviceError, match="cuda"):
        scan.live_backend("cuda")


@needs_native
def test_both_paths_give_the_same_through_the_front_door():
    case = Case(batch=2, length=50, dim=24, states=16, strided=True)
    inputs = ScanInputs(**case.tensors(), reverse=True)
    y, last = scan.selective_scan(inputs)
    with scan.use_backend("reference"):
        want = scan.selective_scan(inputs)
    torch.testing.assert_close((y, last), want, rtol=1e-5, atol=1e-5)


def test_missing_extension_is_announced_once():
    code = """
import sys
sys.modules["slyther_cli._native"] = None
import torch
from slyther_cli import scan
for _ in range(3):
    x = torch.randn(1, 4, 2)
    scan.selective_scan(scan.ScanInputs(x, x, -torch.ones(2, 3), torch.randn(1, 4, 3), torch.randn(1, 4, 3)))
    scan.causal_conv(x, torch.randn(2, 4))
assert scan.live_backend() == "reference"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert done.stderr.count("slow scan") == 1 and "compiled extension" in done.stderr


@needs_native
def test_a_clone_that_is_not_compiled_says_what_to_do(tmp_path, monkeypatch):
    clone, site = tmp_path / "my clone", tmp_path / "site"
    skip = shutil.ignore_patterns("_native*", "__pycache__")
    shutil.copytree(Path(scan.__file__).parents[1], clone / "slyther_cli", ignore=skip)
    (clone / "pyproject.toml").touch()
    (site / "slyther_cli").mkdir(parents=True)
    (site / "slyther_cli/_native.so").touch()
    code = "from slyther_cli import scan; print(scan.live_backend())"
    env = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=clone, env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "reference\n" and len(done.stderr.splitlines()) == 1
    assert f"source in {clone}, which has no compiled extension: run `python -P`" in done.stderr
    monkeypatch.setattr(sys, "path", [str(clone)])  # nothing is installed
    assert cpu._mend(clone / "slyther_cli").startswith(f"`pip install '{clone}'`, then run `python -P`")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("backend", ["triton", "mamba_ssm"])
@pytest.mark.parametrize("length", [1, 300, 5000])
@pytest.mark.parametrize("reverse", [False, True])
def test_on_the_gpu(backend, length, reverse):
    if why := scan.backends()[backend]:
        pytest.skip(why)
    case = Case(batch=2, length=length, dim=72, states=16, reverse=reverse, strided=True)
    tensors = {k: v.cuda() for k, v in case.tensors().items()}
    conv = {k: v.cuda() for k, v in conv_case(2, length, 72, 4, strided=True).items()}

    def front(inputs):
        with scan.use_backend(backend):
            return scan.selective_scan(inputs)

    got = {k: v.cpu() for k, v in run(front, tensors, True, reverse).items()}
    agree(got, truth(case.tensors(), True, reverse), 1e-5, 1e-4, what=backend)
    with scan.use_backend(backend):
        y, _ = scan.causal_conv(**conv, reverse=reverse)
    args = [t.double().cpu() for t in conv.values()]
    agree({"y": y.cpu()}, {"y": reference.causal_conv(*args, reverse, True)}, 1e-5, what=backend)


# ---- what is not a number, and what is not there ----

NANS = (0x7FC00000, 0x7FC00001, -1)
"""Bits of a NaN as arithmetic makes it, with a payload, and with every bit set."""


def with_nan(tensor, bits):
    """A copy with one NaN, of these bits."""
    out = tensor.clone()
    out.view(-1)[out.numel() // 2] = torch.tensor(bits, dtype=torch.int32).view(torch.float32)
    return out


@needs_native
@pytest.mark.parametrize("bits", NANS)
@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_nan_is_nan_wherever_it_is_in_the_reference(bits, softplus, reverse):
    tensors = Case(length=37, dim=19, states=5, softplus=softplus).tensors()

    def check(isa):
        for name in NAMES:
            given = {**tensors, name: with_nan(tensors[name], bits)}
            got = run(cpu.selective_scan, given, softplus, reverse)
            for key, right in run(reference.selective_scan, given, softplus, reverse).items():
                assert right.isnan().any() or name == "z" or key != "y", (name, key)
                assert torch.equal(got[key].isnan(), right.isnan()), (isa, name, key)

    over_isas(check)


@needs_interpreter
def test_nan_stays_nan_in_triton(small_chunks):
    tensors = Case(length=9, dim=3, states=2).tensors()
    for name in ("delta", "delta_bias", "A"):
        given = {**tensors, name: with_nan(tensors[name], NANS[0])}
        got = run(triton_scan.selective_scan, given, True, False)
        for key in ("y", "last", name):
            right = run(reference.selective_scan, given, True, False)[key]
            assert torch.equal(got[key].isnan(), right.isnan()), (name, key)


@needs_native
@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("reverse", [True, False])
def test_nan_is_nan_in_the_convolution(reverse, silu):
    tensors = conv_case(2, 9, 19, 4)

    def check(isa):
        for name in tensors:
            for bits in NANS:
                given = {**tensors, name: with_nan(tensors[name], bits)}
                got = run_conv(cpu.causal_conv, given, reverse, silu)
                for key, right in run_conv(reference.causal_conv, given, reverse, silu).items():
                    assert torch.equal(got[key].isnan(), right.isnan()), (isa, name, key)

    over_isas(check)


@needs_native
@pytest.mark.parametrize("sizes", [{"dim": 0}, {"batch": 0}, {"length": 0}, {"dim": 0, "length": 0}])
@pytest.mark.parametrize("z", [True, False])
def test_kernels_take_tensors_without_elements(sizes, z):
    """The compiled functions themselves: the front door sends such tensors to the reference."""
    case = Case(**{"batch": 2, "length": 3, "dim": 4, **sizes}, states=2, z=z)
    t = case.tensors()

    def check(isa):
        parts = 1 if case.dim else 0
        assert cpu._native.grad_parts(case.batch, case.dim, 1) == parts
        got = run(cpu.selective_scan, t, True, False)
        for key, right in truth(t, True, False).items():  # without frames the reference uses no input
            torch.testing.assert_close(got[key].double(), 0.0 * t[key].double() if right is None else right)
        conv = conv_case(case.batch, case.length, case.dim, 4)
        got = run_conv(cpu.causal_conv, conv, False, True)
        for key, right in run_conv(reference.causal_conv, conv, False, True, torch.float64).items():
            torch.testing.assert_close(got[key].double(), right)

    over_isas(check)


@needs_native
def test_a_scan_without_states_is_the_skip():
    t = Case(states=0, z=False).tensors()
    y, last = cpu.selective_scan(ScanInputs(**t))
    assert torch.equal(y, t["D"] * t["u"]) and last.shape == (1, 5, 0)


@needs_native
def test_kernels_refuse_sizes_that_cannot_be():
    for batch, dim in ((-1, 4), (1, -4), (1, 2**62), (2**62, 1)):
        with pytest.raises(ValueError, match="batch and channels"):
            cpu._native.grad_parts(batch, dim, 1)
    assert cpu._native.grad_parts(1, 4, -5) == cpu._native.grad_parts(1, 4, 0) == 1
