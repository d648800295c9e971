"""The loop: it learns, it resumes as if it had not stopped, it survives bad batches, peers agree."""

import json
import shutil

import pytest
import torch
from torch import nn

from slyther_cli.errors import ModelError, UsageError
from slyther_cli.research.training.loop import GIVE_UP, LoopConfig, Optimizers, Peers, train
from slyther_cli.research.training.muon import Muon, orthogonalise

OFTEN = {"log_seconds": -1.0, "warmup": 2, "validate_minutes": 1e6, "save_minutes": 1e6, "average": 0.9}


pytestmark = pytest.mark.usefixtures("one_thread")


class Block(nn.Module):
    """A matrix that Muon takes, because of its name."""

    def __init__(self):
        super().__init__()
        self.in_proj = nn.Linear(6, 6, bias=False)

    def forward(self, x):
        return self.in_proj(x)


class Toy:
    """Find a known linear map; batches are functions of the step."""

    def __init__(self, spoil=(), stop_at=None):
        torch.manual_seed(0)
        self.model = nn.Sequential(Block(), nn.Linear(6, 3))
        self.truth = torch.randn(3, 6, generator=torch.Generator().manual_seed(9))
        self.spoil, self.stop_at, self.exported = spoil, stop_at, []

    def loss(self, step):
        if step == self.stop_at:
            raise KeyboardInterrupt
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
        loss = (self.model(x) - x @ self.truth.T).square().mean()
        if step in self.spoil:
            loss = loss * float("nan")
        return loss, -float(loss.detach())

    def validate(self):
        with torch.no_grad():
            return {"score": self.loss(10_000)[1]}

    def export(self, folder, metrics):
        self.exported.append((folder.name, metrics))


def go(task, folder, resume=False, **settings):
    events = []
    train(task, LoopConfig(**{**OFTEN, "steps": 40, **settings}), folder, resume, events.append)
    return events


def weights(task):
    return torch.cat([p.detach().flatten() for p in task.model.parameters()])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_loss_falls(tmp_path, optimizer):
    task = Toy()
    events = go(task, tmp_path, optimizer=optimizer, steps=150, lr=2e-2)
    losses = [e["loss"] for e in events if e["event"] == "train"]
    assert len(losses) == 150 and losses[-1] < 0.1 * losses[0]
    assert [e["progress"] for e in events if e["event"] == "train"] == pytest.approx(
        [i / 150 for i in range(150)], abs=1e-3
    )
    assert [name for name, _ in task.exported] == ["last", "best"]
    assert task.exported[0][1]["step"] == 150 and events[-1]["score"] > -0.1 * losses[0]
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == events


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_is_the_unbroken_one(tmp_path, optimizer):
    whole, broken, rest = Toy(), Toy(stop_at=17), Toy()
    go(whole, tmp_path / "a", optimizer=optimizer)
    with pytest.raises(KeyboardInterrupt):
        go(broken, tmp_path / "b", optimizer=optimizer)
    events = go(rest, tmp_path / "b", resume=True, optimizer=optimizer)
    assert [e["step"] for e in events if e["event"] == "train"] == list(range(18, 41))
    assert torch.equal(weights(whole), weights(rest))
    states = [torch.load(tmp_path / run / "last.pt", weights_only=True) for run in "ab"]
    for key, value in states[0]["averaged"].items():
        assert torch.equal(value, states[1]["averaged"][key])
    finished = Toy()
    go(finished, tmp_path / "b", resume=True, optimizer=optimizer)  # nothing is left to do
    assert torch.equal(weights(finished), weights(whole))


class Dropping(Toy):
    """With dropout, and an alphabet."""

    def __init__(self, alphabet="a", **how):
        super().__init__(**how)
        self.model, self.alphabet = nn.Sequential(self.model, nn.Dropout(0.3)), alphabet


def test_dropout_goes_on_too(tmp_path):
    whole, rest = Dropping(), Dropping()
    go(whole, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        go(Dropping(stop_at=17), tmp_path / "b")
    go(rest, tmp_path / "b", resume=True)
    assert torch.equal(weights(whole), weights(rest))
    with pytest.raises(ModelError, match="the alphabet learnt from them"):
        go(Dropping("b"), tmp_path / "b", resume=True)


def test_a_resumed_run_takes_the_weight_decay_that_is_asked_for(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        go(Toy(stop_at=17), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    norms = []
    for run, decay in (("a", 0.0), ("b", 5.0)):
        task = Toy()
        go(task, tmp_path / run, resume=True, weight_decay=decay)
        norms.append(float(weights(task).norm()))
    assert norms[1] < 0.99 * norms[0]


def test_a_stop_during_validation_saves_the_live_weights(tmp_path):
    whole = Toy()
    go(whole, tmp_path / "a")
    stopped = Toy()
    stopped.validate = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        go(stopped, tmp_path / "b", validate_minutes=-1.0)
    rest = Toy()
    go(rest, tmp_path / "b", resume=True)
    assert torch.equal(weights(whole), weights(rest))


def test_a_run_is_not_overwritten_and_damage_is_reported(tmp_path):
    go(Toy(), tmp_path)
    with pytest.raises(ModelError, match="--resume"):
        go(Toy(), tmp_path)
    other = Toy()
    other.model = nn.Sequential(nn.Linear(6, 3))
    with pytest.raises(ModelError, match="another model's") as caught:
        go(other, tmp_path, resume=True)
    assert "\n" not in str(caught.value)
    for damage in ((tmp_path / "last.pt").read_bytes()[:900], b"", b"no checkpoint"):
        (tmp_path / "last.pt").write_bytes(damage)
        with pytest.raises(ModelError, match="damaged"):
            go(Toy(), tmp_path, resume=True)


def test_a_gradient_that_is_not_finite_is_skipped(tmp_path):
    task = Toy(spoil=(3, 4, 20))
    events = go(task, tmp_path, steps=60, lr=2e-2)
    assert [e["step"] for e in events if e["event"] == "skipped"] == [4, 5, 21]
    assert torch.isfinite(weights(task)).all()
    losses = [e["loss"] for e in events if e["event"] == "train"]
    assert len(losses) == 57 and losses[-1] < losses[0]


def test_a_run_that_is_lost_ends(tmp_path):
    with pytest.raises(ModelError, match="diverged"):
        go(Toy(spoil=range(5, 1000)), tmp_path, steps=1000)
    log = (tmp_path / "log.jsonl").read_text().splitlines()
    assert len(log) == 5 + GIVE_UP


def test_the_average_is_what_is_exported(tmp_path):
    task = Toy()
    seen = []
    task.validate = lambda: seen.append(weights(task)) or {"score": 0.0}
    go(task, tmp_path, average=0.5)
    averaged = torch.load(tmp_path / "last.pt", weights_only=True)["averaged"]
    assert torch.equal(seen[0], torch.cat([v.flatten() for v in averaged.values()]))
    assert not torch.equal(seen[0], weights(task))
    follows = Toy()
    go(follows, tmp_path / "off", average=0.0)
    averaged = torch.load(tmp_path / "off/last.pt", weights_only=True)["averaged"]
    assert torch.equal(weights(follows), torch.cat([v.flatten() for v in averaged.values()]))


def test_time_is_a_budget_too(tmp_path):
    events = go(Toy(), tmp_path, steps=10**9, minutes=0.01)
    assert 0.01 <= events[-1]["minutes"] < 0.5


def test_muon_makes_matrices_nearly_orthogonal():
    for shape in ((40, 16), (16, 40), (24, 24)):
        g = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
        s = torch.linalg.svdvals(orthogonalise(g))
        assert float(s.min()) > 0.6 and float(s.max()) < 1.3  # Jordan's coefficients aim about one, not at it
        u, _, v = torch.linalg.svd(g, full_matrices=False)
        cosine = (orthogonalise(g) * (u @ v)).sum() / (orthogonalise(g).norm() * (u @ v).norm())
        assert float(cosine) > 0.97
        assert torch.allclose(orthogonalise(3 * g), orthogonalise(g), atol=1e-5)
        rough = orthogonalise(g, dtype=torch.bfloat16)
        assert rough.dtype == g.dtype and (rough - orthogonalise(g)).norm() < 0.1 * rough.norm()
    assert torch.isfinite(orthogonalise(torch.zeros(4, 4))).all()


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5)])
def test_matrices_of_one_shape_step_together_as_they_do_alone(shape, monkeypatch):
    def stepped(together):
        g = torch.Generator().manual_seed(2)
        weights = [nn.Parameter(torch.randn(*shape, generator=g)) for _ in range(3)]
        idle = nn.Parameter(torch.ones(*shape))  # without a gradient
        muon = Muon([*weights, idle], lr=0.1, weight_decay=0.01)
        if together:
            monkeypatch.setattr(Muon, "_alike", staticmethod(lambda params: [params[:3]]))
        for _ in range(3):
            for p in weights:
                p.grad = torch.randn(*shape, generator=g)
            muon.step()
        assert torch.equal(idle, torch.ones(*shape))
        return torch.stack([p.detach() for p in weights])

    torch.testing.assert_close(stepped(True), stepped(False))


def test_muon_takes_the_inner_matrices_only():
    model = Toy().model
    both = Optimizers(model, LoopConfig(optimizer="muon"))
    assert isinstance(both.all[1], Muon)
    assert [p.shape for p in both.all[1].param_groups[0]["params"]] == [(6, 6)]
    assert sum(len(o.param_groups[0]["params"]) for o in both.all) == len(list(model.parameters()))


def test_parts_with_rates_of_their_own(tmp_path):
    task = Toy()
    before = {k: v.clone() for k, v in task.model.state_dict().items()}
    rates = {"1.weight": 1e-9, "0.": 0}
    go(task, tmp_path, lr=1e-2, lr_of=rates, steps=30)
    moved = {k: float((v - before[k]).abs().max()) for k, v in task.model.state_dict().items()}
    assert moved["0.in_proj.weight"] == 0 and 0 < moved["1.weight"] < 1e-6 and moved["1.bias"] > 1e-3
    go(Toy(), tmp_path, resume=True, lr=1e-2, lr_of=rates, steps=32)  # groups and all


@pytest.mark.parametrize("name", ["2.weight", "weight", "0.in_proj.weight"])  # the last is Muon's
def test_a_rate_that_would_have_no_effect_is_refused(name):
    c = LoopConfig(optimizer="muon", lr_of={"1.bias": 0, name: 1e-3})
    with pytest.raises(UsageError, match=f"lr_of: .* begins with {name}$"):
        Optimizers(Toy().model, c)


@pytest.mark.parametrize(
    "bad",
    [
        *({"optimizer": "sgd"}, {"steps": 0}, {"minutes": -1.0}, {"lr": 0.0}, {"average": 1.0}),
        *({"clip": 0.0}, {"lr_of": {"a": -1.0}}, {"lr_of": {"a": "fast"}}, {"lr_of": {"a": True}}),
    ],
)
def test_settings_without_a_meaning(bad):
    with pytest.raises(UsageError):
        LoopConfig(**bad)


def _peer(rank, meeting, out):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    model = Toy().model
    x = torch.randn(8, 6, generator=torch.Generator().manual_seed(rank))
    model[0](x).square().mean().backward()  # the other layer has no gradient
    agreed = Peers().mean_gradients(model, 0.25 + rank)
    torch.save([agreed, [p.grad for p in model.parameters()]], f"{out}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_peers_take_the_mean_gradient(tmp_path):
    spawn = torch.multiprocessing.get_context("spawn")
    processes = [
        spawn.Process(target=_peer, args=(r, str(tmp_path / "store"), str(tmp_path))) for r in range(2)
    ]
    for p in processes:
        p.start()
    for p in processes:
        p.join(60)
    (one, first), (other, second) = (torch.load(tmp_path / f"{r}.pt") for r in range(2))
    assert one == other == 0.25  # the first one's clock counts
    model = Toy().model
    xs = [torch.randn(8, 6, generator=torch.Generator().manual_seed(r)) for r in range(2)]
    model[0](torch.cat(xs)).square().mean().backward()  # both batches in one process
    wanted = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    for a, b, c in zip(first, second, wanted, strict=True):
        assert torch.equal(a, b) and torch.allclose(a, c, atol=1e-6)
