"""How much of a network's input is left after each layer: mutual information by MINE (papers.md 6).

X is the input of the encoder's first layer, T_i the output of layer i, both frame by frame. The papers'
claim: good recognisers lose information first and regain it in the last layers; poor ones lose it steadily.

Three ways to make a sample:

    utterance   the papers': an estimate for every utterance, on its own frames; the mean counts. Here the
                network starts anew for each estimate
    shared      the papers' code: one network for all utterances and layers, never started anew, so that an
                estimate depends on what was estimated before it
    pooled      ours: frames of all utterances, one estimate a layer, and the value on frames of utterances
                that it has not learnt from, which is a lower bound and not only a score

Beside every estimate stands the same estimate with X's frames in another order: what MINE finds where there
is nothing to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from slyther_cli.errors import InputError, ModelError, UsageError
from slyther_cli.models import registry
from slyther_cli.models.hubert_ctc import HubertCtc
from slyther_cli.research.studies.mine import Mine, MineConfig
from slyther_cli.research.training.data import read_mono, read_table

Row = dict[str, Any]
WAYS = ("utterance", "shared", "pooled")
RESAMPLES = 2000
HELD_OUT = 5  # pooled: every fifth utterance is not learnt from
LEAST = 16  # frames of an utterance that counts
LAYERS = ("wav2vec2.encoder.transformer.layers", "transformer.encoder.layers")


@dataclass(frozen=True)
class Study:
    """``raw`` takes the frames as they are; else every channel is scaled to mean 0 and deviation 1, which
    changes no mutual information but helps the estimate. ``seconds``: the most of an utterance."""

    way: str = "utterance"
    examples: int = 20
    seeds: int = 3
    seconds: float = 20.0
    raw: bool = False
    mine: MineConfig = field(default_factory=MineConfig)

    def __post_init__(self) -> None:
        if self.way not in WAYS:
            raise UsageError(f"unknown way {self.way!r}; choose {', '.join(WAYS)}")
        if min(self.examples, self.seeds) < 1 or self.seconds <= 0:
            raise UsageError("examples and seeds must be 1 or more, seconds above 0")
        if self.way == "pooled" and self.examples < 2:
            raise UsageError("pooled needs 2 utterances or more: some to learn from and one to test on")


def layers_of(model: nn.Module) -> nn.ModuleList:
    """The layers of the encoder. Raises ModelError: it has none that this study knows."""
    for path in LAYERS:
        try:
            return model.get_submodule(path)  # type: ignore[return-value]
        except AttributeError:
            continue
    raise ModelError("mutual information takes a recogniser or a HuBERT: this model has no such encoder")


def untrained(model: Any, architecture: str, config: dict[str, Any]) -> Any:
    """Such a network as its training begins with; only the features' mean and deviation are ``model``'s."""
    torch.manual_seed(0)
    fresh: Any = registry.build(architecture, config)
    if registry.ARCHITECTURES[architecture].task == "transcribe":  # not a HuBERT, which starts so anyway
        fresh.start_from_s4d()
        fresh.normalize.load_state_dict(model.normalize.state_dict())
    return fresh.eval()


class Listener:
    """The inputs and outputs of an encoder's layers while it hears a recording."""

    def __init__(self, model: Any):
        self.model = model
        self.layers = [*layers_of(model), *(model.top_layers() if isinstance(model, HubertCtc) else [])]

    @torch.no_grad()
    def __call__(self, samples: np.ndarray) -> tuple[Tensor, Tensor]:
        """float32 [n] -> x [frames, d], t [layers, frames, d]."""
        first: list[Tensor] = []
        after: list[Tensor] = []
        hooks = [layer.register_forward_hook(lambda m, i, out: after.append(out[0])) for layer in self.layers]
        hooks.append(self.layers[0].register_forward_pre_hook(lambda m, inputs: first.append(inputs[0][0])))
        try:
            self.model.encode(self.model.features(torch.from_numpy(samples)[None]))
        finally:
            for hook in hooks:
                hook.remove()
        return first[0], torch.stack(after)


def measure(
    model: Any,
    manifest: Path,
    split: str,
    c: Study,
    on_utterance: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[Row], Row]:
    """One row a layer, and the curve's :func:`pattern`.

    A row: ``layer`` (1 is the first), ``mi`` and ``baseline`` in nats, each with ``low`` and ``high`` (95 %
    bootstrap over utterances and seeds; pooled: the range of the seeds) and ``by_seed``; ``utterances``,
    ``frames``, ``way``. Pooled values have ``learnt``, too: the value on the frames learnt from.

    Raises InputError: no speech that can be used. ModelError: not a recogniser, nor a HuBERT.
    """
    listen = Listener(model)
    paths = _paths(manifest, split, c.examples)
    seeds = list(range(c.seeds))
    outputs = _layer_outputs(listen, paths, model.config.sample_rate, c)
    layers = len(listen.layers)
    if c.way == "pooled":
        rows = _pooled(list(outputs), layers, seeds, c, on_utterance)
        return rows, pattern(rows)
    shared: list[Mine] = []
    found, frames = [], 0
    for done, (x, t) in enumerate(outputs, 1):
        pairs = [(x, t), (x[_reorder(len(x))], t)]
        if c.way == "shared":
            shared = shared or [Mine(x.shape[1], t.shape[2], 1, seeds, c.mine) for _ in pairs]
            found.append(
                torch.stack([
                    torch.cat([_learnt(mine, x, t[i : i + 1]) for i in range(layers)])
                    for mine, (x, t) in zip(shared, pairs, strict=True)
                ])
            )  # fmt: skip
        else:
            found.append(torch.stack([_learnt(_mine(x, t, seeds, c), x, t) for x, t in pairs]))
        frames += len(x)
        on_utterance(done, len(paths))
    if not found:
        raise InputError(f"{manifest}: every utterance of split {split!r} is too short")
    values = torch.stack(found).numpy()  # [utterances, true or baseline, layers, seeds]
    rows = []
    for layer in range(layers):
        row: Row = {"layer": layer + 1, "way": c.way, "utterances": len(found), "frames": frames}
        for kind, name in enumerate(("mi", "baseline")):
            row[name] = _summary(values[:, kind, layer])
        rows.append(row)
    return rows, pattern(rows, values[:, 0])


def pattern(rows: Sequence[Row], values: np.ndarray | None = None) -> Row:
    """Where the curve is lowest, how far it falls to there and rises from there to the last layer, with 95 %
    intervals over utterances and seeds if ``values`` [utterances, layers, seeds] are given. ``changes`` are
    those from each layer to the next.

    ``shape``: "falls", "falls then rises", "rises" or "flat"; a change whose interval holds 0 does not count.
    """
    means = [row["mi"]["value"] for row in rows]
    low = int(np.argmin(means))
    out: Row = {"lowest_layer": rows[low]["layer"]}
    for name, away in (("fall", 0), ("rise", -1)):
        change: Row = {"value": means[away] - means[low]}
        if values is not None:
            change |= _interval(values[:, away] - values[:, low])
        out[name] = change
    if values is not None:
        steps = np.diff(values, axis=1)
        out["changes"] = [
            {"value": float(steps[:, i].mean()), **_interval(steps[:, i])} for i in range(steps.shape[1])
        ]
    fell, rose = (out[k].get("low", out[k]["value"]) > 0 for k in ("fall", "rise"))
    out["shape"] = {
        (True, True): "falls then rises",
        (True, False): "falls",
        (False, True): "rises",
        (False, False): "flat",
    }[fell, rose]
    return out


def _pooled(
    outputs: list[tuple[Tensor, Tensor]],
    layers: int,
    seeds: list[int],
    c: Study,
    on_utterance: Callable[[int, int], None],
) -> list[Row]:
    if len(outputs) < 2:
        raise InputError("pooled needs 2 utterances or more that are long enough")
    kept = [i for i in range(len(outputs)) if i % HELD_OUT != HELD_OUT - 1 and i < len(outputs) - 1]
    sides = []
    for chosen in (kept, [i for i in range(len(outputs)) if i not in kept]):
        sides.append(
            (torch.cat([outputs[i][0] for i in chosen]), torch.cat([outputs[i][1] for i in chosen], 1))
        )
    (x, t), (new_x, new_t) = sides
    found = []
    for baseline in (False, True):
        if baseline:
            x, new_x = x[_reorder(len(x))], new_x[_reorder(len(new_x))]
        mine = _mine(x, t, seeds, c)
        learnt = _learnt(mine, x, t).numpy()
        found.append((mine.value(new_x, new_t).numpy(), learnt))
        on_utterance(1 + baseline, 2)
    rows = []
    for layer in range(layers):
        row: Row = {
            "layer": layer + 1,
            "way": c.way,
            "utterances": len(outputs),
            "frames": len(x) + len(new_x),
        }
        for name, (values, learnt) in zip(("mi", "baseline"), found, strict=True):
            by_seed = values[layer]
            row[name] = {
                "value": float(by_seed.mean()),
                "low": float(by_seed.min()),
                "high": float(by_seed.max()),
                "by_seed": [float(v) for v in by_seed],
                "learnt": float(learnt[layer].mean()),
            }
        rows.append(row)
    return rows


def _mine(x: Tensor, t: Tensor, seeds: list[int], c: Study) -> Mine:
    return Mine(x.shape[1], t.shape[2], len(t), seeds, c.mine)


def _learnt(mine: Mine, x: Tensor, t: Tensor) -> Tensor:
    mine.learn(x, t)
    return mine.value(x, t)


def _reorder(n: int) -> Tensor:
    """A fixed order of frames that has nothing to do with time."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(n))


def _layer_outputs(
    listen: Listener, paths: list[Path], rate: int, c: Study
) -> Iterator[tuple[Tensor, Tensor]]:
    for path in paths:
        samples = read_mono(path, rate)[: int(c.seconds * rate)]
        if listen.model.frames(len(samples)) < LEAST:
            continue
        x, t = listen(samples)
        yield (x, t) if c.raw else (_scaled(x), _scaled(t))


def _scaled(x: Tensor) -> Tensor:
    return (x - x.mean(-2, keepdim=True)) / x.std(-2, keepdim=True).clamp(min=1e-5)


def _paths(manifest: Path, split: str, examples: int) -> list[Path]:
    """``examples`` utterances, spread evenly over the split's speakers and names."""
    base = manifest.resolve().parent
    rows = [r for r in read_table(manifest, ("path", "speaker", "split")) if r["split"] == split]
    if not rows:
        raise InputError(f"{manifest}: no utterance of split {split!r}")
    rows.sort(key=lambda r: (r["speaker"], r["path"]))
    count = min(examples, len(rows))
    return [base / rows[i * len(rows) // count]["path"] for i in range(count)]


def _summary(values: np.ndarray) -> Row:
    """[utterances, seeds] -> the mean, its interval, and the mean of each seed."""
    return {
        "value": float(values.mean()),
        **_interval(values),
        "by_seed": [float(v) for v in values.mean(0)],
    }


def _interval(values: np.ndarray) -> Row:
    """The 95 % bootstrap interval of the mean of [utterances, seeds], both drawn with replacement."""
    rng = np.random.default_rng(0)
    n, seeds = values.shape
    rows = rng.integers(n, size=(RESAMPLES, n, 1))
    columns = rng.integers(seeds, size=(RESAMPLES, 1, seeds))
    low, high = np.quantile(values[rows, columns].mean((1, 2)), [0.025, 0.975])
    return {"low": float(low), "high": float(high)}
