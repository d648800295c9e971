"""EnCodec's weights in both published layouts, made here with random values: the official ones are not on
this machine. Every tensor must find its place, and the sound stay that of the encodec package."""

import re
import warnings

import pytest
import torch
from safetensors.torch import save_file

from slyther_cli.app import main
from slyther_cli.audio.torchaudio_compat import encodec
from slyther_cli.checkpoints import catalogue, download, store
from slyther_cli.checkpoints.encodec import OFFICIAL_SHA256, import_file
from slyther_cli.errors import ModelError


@pytest.fixture(scope="module")
def theirs():
    """encodec's own 24 kHz model with weight normalisation, as the official file is of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model = encodec().EncodecModel.encodec_model_24khz(pretrained=False)
    torch.manual_seed(2)
    for name, value in model.state_dict().items():
        if name.endswith("weight_g"):  # so that g is not just the norm of v
            value.mul_(torch.rand_like(value) + 0.5)
        if name.endswith("_codebook.embed"):
            value.normal_(0, 0.05)
    return model.eval()


def as_transformers(state: dict, parametrized: bool) -> dict:
    """The names of transformers' EncodecModel (modeling_encodec.py), old and new."""
    out = {}
    for key, value in state.items():
        key = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", key)
        key = key.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
        key = key.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")
        if parametrized:
            key = key.replace("weight_g", "parametrizations.weight.original0")
            key = key.replace("weight_v", "parametrizations.weight.original1")
        out[key] = value.clone()
    return out


@pytest.mark.parametrize("layout", ["meta", "transformers", "transformers, parametrized"])
def test_either_file_sounds_as_encodec_does(theirs, tmp_path, layout):
    if layout == "meta":
        path = tmp_path / "encodec_24khz-d7cc33bc.th"
        torch.save(theirs.state_dict(), path)
    else:
        path = tmp_path / "model.safetensors"
        save_file(as_transformers(theirs.state_dict(), "param" in layout), path)
    folder = import_file(path, tmp_path / "out")
    codec, config = store.load(folder, expect_task="codec")
    assert (codec.sample_rate, codec.n_codebooks, codec.frame_rate) == (24_000, 32, 75)
    assert "sha256" in config.source  # not the official file, and the model says so
    x = torch.randn(1, 4000) * 0.1
    with torch.inference_mode():
        theirs.bandwidth = 6.0
        codes = theirs.encode(x[:, None])[0][0]
        assert torch.equal(codec.encode(x, 8), codes)
        torch.testing.assert_close(
            codec.decode(codes), theirs.decode([(codes, None)])[:, 0], atol=1e-5, rtol=0
        )


def test_what_is_not_encodec_is_refused(theirs, tmp_path):
    state = dict(theirs.state_dict())
    del state["encoder.model.0.conv.conv.weight_g"]
    torch.save(state, tmp_path / "a.th")
    with pytest.raises(ModelError, match="weight_g"):
        import_file(tmp_path / "a.th", tmp_path / "out")
    save_file({"x": torch.zeros(3)}, tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="not EnCodec 24 kHz"):
        import_file(tmp_path / "b.safetensors", tmp_path / "out")
    (tmp_path / "c.th").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(ModelError):
        import_file(tmp_path / "c.th", tmp_path / "out")
    (tmp_path / "d.safetensors").write_bytes(b"nothing at all")
    with pytest.raises(ModelError, match="damaged"):
        import_file(tmp_path / "d.safetensors", tmp_path / "out")
    assert main(["weights", "import", str(tmp_path / "none.th"), "-o", str(tmp_path / "out")]) == 5
    assert not (tmp_path / "out").exists()


def test_the_catalogue_pins_the_official_file():
    entry = catalogue.ENTRIES["encodec-24khz"]
    assert entry.files[0].sha256 == OFFICIAL_SHA256 and OFFICIAL_SHA256.startswith("d7cc33bc")
    assert "CC BY-NC" in entry.note


def test_a_pulled_file_must_have_the_sha256(theirs, tmp_path, monkeypatch):
    """From a server of our own: the random weights are turned away, and taken once the pin is theirs."""
    import functools
    import hashlib
    import http.server
    import threading
    from dataclasses import replace

    torch.save(theirs.state_dict(), tmp_path / "encodec_24khz-d7cc33bc.th")
    raw = (tmp_path / "encodec_24khz-d7cc33bc.th").read_bytes()
    entry = catalogue.ENTRIES["encodec-24khz"]
    sized = replace(entry.files[0], size=len(raw))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        monkeypatch.setitem(catalogue.ENTRIES, entry.name, replace(entry, files=(sized,)))
        with pytest.raises(ModelError, match="checksum differs"):
            download.pull(entry.name, base_url=url, cache=tmp_path / "cache")
        own = replace(sized, sha256=hashlib.sha256(raw).hexdigest())
        monkeypatch.setitem(catalogue.ENTRIES, entry.name, replace(entry, files=(own,)))
        folder = download.pull(entry.name, base_url=url, cache=tmp_path / "cache")
        assert store.check(folder).task == "codec" and "Meta" in (folder / "CARD.md").read_text()
    finally:
        server.shutdown()
        server.server_close()
