"""Manifests, speech pools, mixtures."""

import json

import numpy as np
import pytest
import soundfile as sf
from voices import NO_SPEECH, RATE, SPEAKERS, SPEECH, corpus, utterance

from slyther_cli.errors import InputError, OutputError, UsageError
from slyther_cli.research.training.augmentation import between, coloured, reverberant
from slyther_cli.research.training.data import SpeechPool, read_manifest, trim_and_level
from slyther_cli.research.training.mixing import Mixer, MixingConfig


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def pool(manifest, tmp_path_factory):
    return SpeechPool([manifest], "train", RATE, tmp_path_factory.mktemp("cache"))


def rms_db(x):
    return 10 * np.log10(np.mean((np.asarray(x, np.float64) / 32768) ** 2))


def test_a_pool_holds_the_split_by_speaker_at_one_level(pool):
    assert set(pool.speakers) == set(SPEAKERS)
    assert pool.sex == {name: sex for name, (_, sex) in SPEAKERS.items()}
    pieces = [x for speaker in pool.speakers.values() for x in speaker]
    assert len(pieces) == 8 and all(x.dtype == np.int16 and len(x) > RATE for x in pieces)
    assert [rms_db(x) for x in pieces] == pytest.approx([-25.0] * 8, abs=0.05)
    assert pool.seconds == pytest.approx(sum(map(len, pieces)) / RATE)


def test_a_pool_is_read_once_and_again_when_something_changes(tmp_path, monkeypatch):
    manifest, cache = corpus(tmp_path, splits=("train",)), tmp_path / "cache"
    first = SpeechPool([manifest], "train", RATE, cache)
    with monkeypatch.context() as m:
        m.setattr("slyther_cli.research.training.data.read_mono", None)
        again = SpeechPool([manifest], "train", RATE, cache)
    assert all(
        np.array_equal(a, b) for a, b in zip(first.speakers["ann"], again.speakers["ann"], strict=True)
    )
    sf.write(tmp_path / "train-ann-0.wav", utterance(900, 2.5, 7), RATE)
    assert len(SpeechPool([manifest], "train", RATE, cache).speakers["ann"][0]) > 2 * RATE
    manifest.write_text(manifest.read_text().replace("\tdan\t", "\tdave\t"))
    assert "dave" in SpeechPool([manifest], "train", RATE, cache).speakers
    assert not list(cache.glob("*.tmp")) and len(list(cache.glob("tmp*"))) == 0


def test_a_pool_resamples_and_mixes_channels_down(tmp_path):
    x = utterance(200, 1.0, 0, 16000)
    sf.write(tmp_path / "a.wav", np.stack([x, np.zeros_like(x)], 1), 16000)
    (tmp_path / "m.tsv").write_text("path\tspeaker\tsplit\na.wav\tx\ttrain\n")
    (piece,) = SpeechPool([tmp_path / "m.tsv"], "train", RATE, tmp_path).speakers["x"]
    assert abs(len(piece) - RATE) < 0.1 * RATE
    peak = np.abs(np.fft.rfft(piece)).argmax() * RATE / len(piece)
    assert 190 < peak < 225


def test_silent_ends_are_trimmed():
    x = np.concatenate([np.zeros(4000), utterance(200, 1.0, 0), np.zeros(8000)]).astype(np.float32)
    assert 0.95 * RATE < len(trim_and_level(x, RATE)) < 1.1 * RATE
    for nothing in (np.zeros(8000, np.float32), np.zeros(3, np.float32), np.zeros(0, np.float32)):
        assert len(trim_and_level(nothing, RATE)) == 0
    spike = np.zeros(8000, np.float32)
    spike[4000] = 1
    assert np.abs(trim_and_level(spike, RATE)).max() <= 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no column path, speaker, split"),
        ("path\tspeaker\n", "no column split"),
        ("path\tspeaker\tsplit\n", "no rows"),
        ("path\tspeaker\tsplit\na.wav\tx\n", "line 2 has no split"),
        (b"path\tspeaker\tsplit\n\xff\xfe\t\t\n", "cannot read"),
        ("path\tspeaker\tsplit\nnone.wav\tx\ttrain\n", "none.wav: No such file"),
        ("path\tspeaker\tsplit\nnoise.wav\tx\ttrain\n", "noise.wav: "),
        ("path\tspeaker\tsplit\nnan.wav\tx\ttrain\n", "nan.wav: has samples that are not finite"),
        ("path\tspeaker\tsplit\nsilence.wav\tx\ttrain\n", "nothing but silence"),
        ("path\tspeaker\tsplit\nsilence.wav\tx\tdev\n", "no utterance of split 'train'"),
    ],
)
def test_damaged_manifests(tmp_path, text, says):
    (tmp_path / "noise.wav").write_bytes(b"RIFFnothing of the kind")
    sf.write(tmp_path / "nan.wav", np.array([0.1, np.nan] * 4000, np.float32), RATE, subtype="FLOAT")
    sf.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), RATE)
    path = tmp_path / "m.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=says) as caught:
        SpeechPool([path], "train", RATE, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "cache").glob("tmp*"))


def test_a_manifest_or_cache_that_is_not_there(tmp_path, manifest):
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "none.tsv")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot hold"):
        SpeechPool([manifest], "train", RATE, tmp_path / "file")


def test_quotes_and_a_byte_order_mark_are_plain_text(tmp_path):
    text = '\ufeffpath\tspeaker\tsplit\ttranscript\ta\n"a.wav\tx\ttrain\t"he said\t1\textra\n'
    (tmp_path / "m.tsv").write_text(text, encoding="utf-8")
    (row,) = read_manifest(tmp_path / "m.tsv")
    assert row.path == tmp_path / '"a.wav' and row.transcript == '"he said' and row.sex == ""


@pytest.mark.parametrize("turns", [0.0, 1.0])
def test_an_example_is_a_function_of_seed_and_index(pool, turns):
    config = MixingConfig(turns=turns)
    one, other = Mixer(pool, config, 2, 7), Mixer(pool, config, 2, 7)
    other.example(3, 4000)
    for index in (0, 5):
        (mix, sources), (mix2, sources2) = one.example(index, 8000), other.example(index, 8000)
        assert np.array_equal(mix, mix2) and np.array_equal(sources, sources2)
        assert mix.dtype == sources.dtype == np.float32 and sources.shape == (2, 8000)
        assert np.allclose(mix, sources.sum(0), atol=1e-6) and np.abs(mix).max() == pytest.approx(
            0.9, abs=1e-3
        )
    assert not np.array_equal(one.example(0, 8000)[0], one.example(1, 8000)[0])
    assert not np.array_equal(one.example(0, 8000)[0], Mixer(pool, config, 2, 8).example(0, 8000)[0])


def test_levels_speakers_and_turns(pool):
    full = Mixer(pool, MixingConfig(speed=(1.0,)), 2, 0)
    levels, silent = [], 0
    for i in range(300):
        sources = full.example(i, 8000)[1].astype(np.float64)
        levels.append(10 * np.log10((sources[1] ** 2).mean() / (sources[0] ** 2).mean()))
        assert len(set(full.speakers(i))) == 2
    # A window of an utterance is not as loud as the whole: allow for it.
    assert np.mean(levels) == pytest.approx(-2.51, abs=0.6) and 2.2 < np.std(levels) < 3.8
    talk = Mixer(pool, MixingConfig(turns=1.0), 2, 0)
    silent = np.mean([(np.abs(talk.example(i, 32000)[1]) == 0).mean() for i in range(20)])
    assert 0.2 < silent < 0.8


def test_the_speakers_are_those_that_are_heard(pool):
    mixer = Mixer(pool, MixingConfig(speed=(1.0,)), 2, 3)
    for i in range(8):
        for name, source in zip(mixer.speakers(i), mixer.example(i, 8000)[1], strict=True):
            strongest = np.abs(np.fft.rfft(source)).argmax()  # Hz: the window is a second
            assert (strongest > 1000) == (SPEAKERS[name][1] == "F")


def test_a_voice_keeps_its_speed(pool):
    """The speakers are tones: all of a source has the same one, whichever speed was drawn."""
    faster, plain = (Mixer(pool, MixingConfig(speed=s), 2, 3) for s in ((0.5, 1.0, 2.0), (1.0,)))
    ratios = set()
    for i in range(12):
        pitches = []
        for mixer in (faster, plain):
            halves = np.split(mixer.example(i, 4 * RATE)[1][0], 2)
            first, second = (np.abs(np.fft.rfft(half)).argmax() for half in halves)
            assert first == pytest.approx(second, rel=0.05)
            pitches.append(first)
        ratios.add(round(2 * pitches[0] / pitches[1]))
    assert ratios == {1, 2, 4}


def test_half_of_the_voices_are_inverted(pool):
    plain, inverted = (Mixer(pool, MixingConfig(speed=(1.0,), invert=i), 2, 3) for i in (False, True))
    signs = [np.sign(plain.example(i, 4000)[1][0] @ inverted.example(i, 4000)[1][0]) for i in range(20)]
    assert 4 < signs.count(1) < 16 and signs.count(1) + signs.count(-1) == 20


def test_colour_is_smooth_and_as_strong_as_asked():
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(1 << 15).astype(np.float32)
    gains = []
    for _ in range(40):
        out = coloured(rng, noise, 3.0)
        assert out.dtype == np.float32 and out.std() == pytest.approx(noise.std(), rel=1e-3)
        power = (np.square(np.abs(np.fft.rfft(x)))[1:].reshape(64, -1).mean(1) for x in (out, noise))
        gains.append(10 * np.log10(np.divide(*power)))
    assert 2 < np.std(gains) < 4
    assert np.abs(np.diff(gains, axis=1)).max() < 6  # dB from one band of 62 Hz to the next
    assert not coloured(rng, np.zeros(100, np.float32), 3.0).any()


def test_a_room_rings_as_long_and_as_loud_as_asked():
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[100] = 1
    out = reverberant(np.random.default_rng(0), impulse, RATE, 0.5, 6.0).astype(float)
    direct, tail = out[100], out[101:]
    assert not np.abs(out[:100]).max() > 1e-6 and np.abs(out[101:115]).max() < 1e-6  # nothing comes before
    assert np.square(out).sum() == pytest.approx(1, rel=1e-3)
    assert 10 * np.log10(direct**2 / np.square(tail).sum()) == pytest.approx(6, abs=0.01)
    decay = [10 * np.log10(np.square(out[at : at + 400]).mean()) for at in (200, 200 + RATE // 4)]
    assert decay[0] - decay[1] == pytest.approx(30, abs=1.5)  # half of the 60 dB in half of the time
    assert not reverberant(np.random.default_rng(0), np.zeros(100, np.float32), RATE, 0.5, 6.0).any()


def test_a_line_has_its_band_and_shifts_nothing():
    t = np.arange(2 * RATE) / RATE
    gains = {0: -np.inf, 150: -24.1, 300: -3.0, 1000: 0.0, 3400: -3.0, 3800: -11.9}
    tones = np.stack([np.cos(2 * np.pi * f * t) for f in gains]).astype(np.float32)
    out = between(tones, RATE, 300, 3400)
    assert out.dtype == np.float32 and out.shape == tones.shape
    for (frequency, gain), x, y in zip(gains.items(), tones[:, 2000:-2000], out[:, 2000:-2000], strict=True):
        if frequency:
            assert 10 * np.log10(np.square(y).mean() / np.square(x).mean()) == pytest.approx(gain, abs=0.1)
            assert np.corrcoef(x, y)[0, 1] > 0.9999
        else:
            assert np.abs(y).max() < 0.01


def test_recordings_change_neither_who_speaks_nor_what(pool):
    plain = Mixer(pool, MixingConfig(speed=(1.0,)), 2, 3)

    def ratio_db(a, b):
        return 10 * np.log10(np.square(a, dtype=float).sum() / np.square(b, dtype=float).sum())

    for name, settings in {
        "noise": {"noise": 1.0, "snr_db": (12.0, 12.0)},
        "room": {"rooms": 1.0, "room_s": (0.3, 0.3)},
        "line": {"narrow": 1.0, "low_hz": (400.0, 400.0), "high_hz": (3000.0, 3000.0)},
    }.items():
        mixer = Mixer(pool, MixingConfig(speed=(1.0,), **settings), 2, 3)
        for i in range(6):
            (mix, sources), (_, dry) = mixer.example(i, 8000), plain.example(i, 8000)
            assert mix.dtype == sources.dtype == np.float32 and np.abs(mix).max() == pytest.approx(
                0.9, abs=1e-3
            )
            assert np.array_equal(mix, mixer.example(i, 8000)[0]) and mixer.speakers(i) == plain.speakers(i)
            if name != "line":  # it may take more from one voice
                assert ratio_db(*sources) == pytest.approx(ratio_db(*dry), abs=0.01)
            rest = mix - sources.sum(0)
            if name == "noise":
                assert ratio_db(sources.sum(0), rest) == pytest.approx(12, abs=0.1)
                assert all(np.corrcoef(a, b)[0, 1] > 0.9999 for a, b in zip(sources, dry, strict=True))
            else:
                assert np.abs(rest).max() < 1e-5
            if name == "room":
                assert all(np.corrcoef(a, b)[0, 1] < 0.999 for a, b in zip(sources, dry, strict=True))
            if name == "line":
                power = np.square(np.abs(np.fft.rfft(mix)))  # a bin is a Hz
                assert power[:200].sum() + power[3600:].sum() < 0.01 * power.sum()
    some = Mixer(pool, MixingConfig(speed=(1.0,), noise=0.5), 2, 3)
    noisy = [
        np.abs(np.subtract(m, s.sum(0))).max() > 1e-4 for m, s in (some.example(i, 800) for i in range(40))
    ]
    assert 10 < sum(noisy) < 30


def test_a_voice_alone_and_voices_of_one_sex(pool):
    plain = Mixer(pool, MixingConfig(speed=(1.0,)), 2, 3)
    some = Mixer(pool, MixingConfig(speed=(1.0,), alone=0.5), 2, 3)
    alone = 0
    for i in range(40):
        (mix, sources), (dry_mix, dry) = some.example(i, 800), plain.example(i, 800)
        assert some.speakers(i) == plain.speakers(i)
        if sources[1].any():
            assert np.array_equal(mix, dry_mix)
        else:
            alone += 1
            assert np.array_equal(mix, sources[0]) and np.corrcoef(mix, dry[0])[0, 1] > 0.9999
    assert 10 < alone < 30
    alike = []
    for share in (0.0, 0.5, 1.0):
        mixer = Mixer(pool, MixingConfig(same_sex=share), 2, 3)
        pairs = [mixer.speakers(i) for i in range(200)]
        assert all(a != b for a, b in pairs)
        alike.append(np.mean([pool.sex[a] == pool.sex[b] for a, b in pairs]))
    assert alike[0] + 0.1 < alike[1] < alike[2] - 0.1 and alike[2] == 1
    three = Mixer(pool, MixingConfig(same_sex=1.0), 3, 3)  # there are no three of one sex
    assert all(len(set(three.speakers(i))) == 3 for i in range(20))


def test_one_sex_needs_the_sexes(pool, monkeypatch):
    monkeypatch.setattr(pool, "sex", pool.sex | {"ann": ""})
    mixer = Mixer(pool, MixingConfig(same_sex=1.0), 2, 3)
    pairs = [mixer.speakers(i) for i in range(80)]
    assert all(b in ("bob", "dan") for a, b in pairs if a in ("bob", "dan"))
    assert {b for a, b in pairs if a == "ann"} > {"bob"}  # of unknown sex: anybody
    monkeypatch.setattr(pool, "sex", dict.fromkeys(pool.sex, ""))
    Mixer(pool, MixingConfig(), 2, 3)
    with pytest.raises(InputError, match="column sex"):
        Mixer(pool, MixingConfig(same_sex=0.1), 2, 3)


def test_mixing_needs_speakers_and_sense(pool):
    with pytest.raises(InputError, match="4 speakers"):
        Mixer(pool, MixingConfig(), 5, 0)
    for bad in (
        *(
            {"speed": ()},
            {"speed": (0.0,)},
            {"pause_s": (1.0,)},
            {"turns": 2.0},
            {"alone": 2.0},
            {"same_sex": -1.0},
        ),
        *(
            {"level_std": -1.0},
            {"colour_db": -1.0},
            {"rooms": 1.1},
            {"noise": -0.1},
            {"narrow": float("nan")},
        ),
        *({"room_s": (0.0, 1.0)}, {"snr_db": (9.0, 1.0)}, {"direct_db": (1.0,)}, {"low_hz": (-1.0, 50.0)}),
        {"low_hz": (50.0, 2600.0), "high_hz": (2600.0, 3000.0)},
    ):
        with pytest.raises(UsageError):
            MixingConfig(**bad)


@pytest.mark.speech
@pytest.mark.skipif(not (SPEECH / "an4/manifest.tsv").is_file(), reason=NO_SPEECH)
def test_a_real_corpus(tmp_path):
    pool = SpeechPool([SPEECH / "an4/manifest.tsv"], "test", RATE, tmp_path)
    mixture, sources = Mixer(pool, MixingConfig(), 2, 0).example(0, 2 * RATE)
    assert set(pool.sex.values()) <= {"F", "M"} and len(pool.speakers) > 2
    assert np.isfinite(mixture).all() and (sources**2).mean(1).min() > 1e-5
    index = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert len(index) == sum(map(len, pool.speakers.values()))
