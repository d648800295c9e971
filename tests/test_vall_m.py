"""VALL-M: the stepped first stage equals the whole one, padding changes nothing, the second stage is told
what it may see."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slyther_cli.english.phonemes import ALPHABETS, spell
from slyther_cli.errors import ModelError
from slyther_cli.models import registry
from slyther_cli.models.vall_m import Batch, Context, VallM, VallMConfig, frames_of
from slyther_cli.models.vall_sampling import Pace

SMALL = {"alphabet": "arpabet", "n_symbols": 20, "d_model": 16, "d_ffn": 24, "n_layers": 2, "n_nar_layers": 2,
         "n_text_layers": 1, "n_codebooks": 3, "codebook_size": 12, "dropout": 0.0}  # fmt: skip


def model(conditioning: str, **settings: int) -> VallM:
    torch.manual_seed(3)
    network = VallM(VallMConfig(**SMALL, conditioning=conditioning, **settings)).eval()
    for p in network.parameters():  # so that what is zero at the start takes part
        p.data += 0.05 * torch.randn_like(p)
    return network


def batch(n_symbols: list[int], n_frames: list[int], seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    symbols = torch.randint(1, 20, (len(n_symbols), max(n_symbols)), generator=g)
    codes = torch.randint(0, 12, (len(n_symbols), 3, max(n_frames)), generator=g)
    durations = torch.zeros_like(symbols)
    for i, (s, t) in enumerate(zip(n_symbols, n_frames, strict=True)):
        cuts = torch.sort(torch.randint(0, t + 1, (s - 1,), generator=g)).values.tolist()
        durations[i, :s] = torch.tensor([0, *cuts, t]).diff()
    return Batch(symbols, torch.tensor(n_symbols), codes, torch.tensor(n_frames), durations)


@pytest.mark.parametrize("conditioning", ["prefix", "encoder", "aligned"])
@settings(max_examples=4)
@given(st.integers(1, 6), st.integers(1, 9), st.integers(0, 9), st.integers(0, 99), st.integers(1, 2))
@torch.inference_mode()
def test_frame_by_frame_the_first_stage_says_what_it_says_of_the_whole(conditioning, s, t, prompt, seed, k):
    k = k if conditioning == "aligned" else 1
    network, prompt = model(conditioning, n_first=k), min(prompt, t)
    one = batch([s], [t], seed)
    codes, text = one.codes[:, :k], network.read(one.symbols)
    guide = None
    if network.aligned:
        guide = network.spread(text, one.durations)
        assert guide.shape == (1, t, 16)
        whole = network.first_logits(guide, codes)
    else:
        x = torch.cat((text, network.ar_audio_embedding(network._shifted(codes[:, 0]))), 1)
        whole = [network.ar_predict_layer(network.ar_decoder(x))[:, s:]]
    context = network.begin(text)
    context = network.prompted(context, codes[..., :prompt], None if guide is None else guide[:, :prompt])
    for i in range(prompt, t):
        y, states = network.step(context, None if guide is None else guide[:, i : i + 1])
        for j, expected in enumerate(whole):
            logits = network.code_logits(y, codes[:, :j, i])
            torch.testing.assert_close(logits, expected[:, i], rtol=1e-4, atol=1e-4)
        context = Context(states, codes[..., i])
    sizes = {x.shape for state in context.states or [] for x in state}
    assert sizes == {(1, 3, 32), (1, 32, 16)} or not context.states  # whatever was said before


@pytest.mark.parametrize("conditioning", ["prefix", "encoder", "aligned"])
@torch.inference_mode()
def test_a_batch_loses_what_its_rows_lose_alone(conditioning):
    network, sizes = model(conditioning), [(3, 7), (6, 4), (5, 9)]
    both = batch([s for s, _ in sizes], [t for _, t in sizes])
    level, n_prompt = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 3])
    joint = network.losses(both, level, n_prompt)
    alone, rest, lengths = 0.0, 0.0, 0.0
    for i, (s, t) in enumerate(sizes):
        row = Batch(*(x[i : i + 1] for x in both[:2]), both.codes[i : i + 1, :, :t], both.n_frames[i : i + 1],
                    both.durations[i : i + 1, :s])  # fmt: skip
        row = row._replace(symbols=row.symbols[:, :s])
        own = network.losses(row, level[i : i + 1], n_prompt[i : i + 1])
        alone += float(own.first) * (t + (not network.aligned))
        rest += float(own.rest) * (t - int(n_prompt[i]))
        lengths += float(own.lengths) * s
    frames = sum(t for _, t in sizes)
    assert float(joint.first) == pytest.approx(alone / (frames + 3 * (not network.aligned)), rel=1e-4)
    assert float(joint.rest) == pytest.approx(rest / (frames - 5), rel=1e-4)
    assert float(joint.lengths) == pytest.approx(lengths / 14, rel=1e-4)


@pytest.mark.parametrize("conditioning", ["prefix", "aligned"])
@torch.inference_mode()
def test_the_second_stage_sees_lower_codebooks_and_all_of_the_prompt_only(conditioning):
    network, one = model(conditioning), batch([4], [8])
    text = network.read(one.symbols)
    text = network.spread(text, one.durations) if network.aligned else text
    level, n_prompt = torch.tensor([0]), torch.tensor([3])

    def logits(codes, level=level):
        return network.next_logits(text, codes, level, n_prompt)

    base = logits(one.codes)
    for k, t, seen in ((0, 6, True), (1, 6, False), (2, 6, False), (1, 2, True), (2, 0, True)):
        other = one.codes.clone()
        other[0, k, t] = (other[0, k, t] + 1) % 12
        assert (not torch.equal(logits(other), base)) is seen, (k, t)
    other = one.codes.clone()
    other[0, 1, 7] = (other[0, 1, 7] + 1) % 12  # sees to both sides, at the next level
    upper = torch.tensor([1])
    assert not torch.equal(logits(other, upper)[:, 0], logits(one.codes, upper)[:, 0])


@torch.inference_mode()
def test_a_hidden_frame_is_not_told_the_one_before():
    network, one = model("aligned", n_first=2), batch([4], [8])
    guide, codes = network.spread(network.read(one.symbols), one.durations), one.codes[:, :2]
    hidden = torch.zeros(1, 8, dtype=torch.bool)
    hidden[0, 4] = True
    other = codes.clone()
    other[..., 3] = (other[..., 3] + 1) % 12
    for k, same in ((None, 4), (hidden, 8)):  # frame 3 is told to frame 4 alone
        a, b = (network.first_logits(guide, c, k)[0][0] for c in (codes, other))
        assert torch.equal(a[:same], b[:same]) and (k is hidden or not torch.equal(a[4], b[4]))


@torch.inference_mode()
def test_frames_are_given_their_symbols_in_order():
    network = model("aligned")
    text = torch.arange(4.0)[None, :, None].expand(1, 4, 16).contiguous()
    network.place.weight.zero_()
    network.place.bias.zero_()
    spread = network.spread(text, torch.tensor([[2, 0, 3, 1]]))
    assert spread[0, :, 0].tolist() == [0, 0, 2, 2, 2, 3]


@given(st.lists(st.floats(0, 4), min_size=1, max_size=30), st.floats(0.5, 2))
def test_rounded_lengths_follow_the_exact_ones(logs, speed):
    log_durations = torch.tensor(logs)
    frames = frames_of(log_durations, speed)
    exact = torch.expm1(log_durations.double()).cumsum(0) / speed
    assert (frames >= 0).all() and ((frames.cumsum(0) - exact).abs() <= 0.5 + 1e-6).all()


def test_a_pace_is_of_pauses_and_of_all():
    symbols = torch.tensor(spell("Yes, or no.", "arpabet").symbols)
    speeds = Pace(speed=0.5, pause=2).speeds(symbols)
    names = [ALPHABETS["arpabet"][s] for s in symbols]
    slow = [name for name, speed in zip(names, speeds.tolist(), strict=True) if speed == 0.25]
    assert slow == [" ", ",", "."] and (speeds == 0.5).sum() == len(symbols) - 3
    none = frames_of(torch.full(symbols.shape, 2.0), Pace(pause=0).speeds(symbols))
    assert [name for name, frames in zip(names, none, strict=True) if not frames] == [" ", ",", "."]


def test_sizes_and_bad_settings():
    assert 330e6 < registry.parameter_count("vall-m", {}) < 400e6
    assert registry.parameter_count(*registry.PRESETS["vall-me-aligned-small"]) < 16e6
    with pytest.raises(ModelError, match="conditioning"):
        registry.full_config("vall-m", {"conditioning": "guesswork"})
    with pytest.raises(ModelError, match="n_codebooks"):
        registry.build("vall-m", {"n_codebooks": 1})
