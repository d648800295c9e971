"""The published weights that ``download.pull`` knows, each file pinned by its git blob id. Needs no torch.

Pins: repository xi-j/Mamba-TasNet at commit 7e14e307 (2024-09-30), folder ckpts/WSJ0Mix, the last commit
that holds the checkpoints in git. Ids and sizes are from the tree of that commit; the masknet sizes are
predicted from the layout of torch's zip files and are used for the size cap only, never enforced. Scores
are the averages of the published runs' test_results.csv (WSJ0-2mix, min, 8 kHz).
"""

from __future__ import annotations

from dataclasses import dataclass

COMMIT = "7e14e307a7a11c6746aee9886e9ef13021c48389"
BASE_URL = f"https://raw.githubusercontent.com/xi-j/Mamba-TasNet/{COMMIT}/ckpts/WSJ0Mix"
SOURCE = f"https://github.com/xi-j/Mamba-TasNet/tree/{COMMIT}/ckpts/WSJ0Mix"
LICENSE = "GPL-3.0"
LICENSE_NOTE = (
    "These weights were published by the authors of Mamba-TasNet in a GPL-3.0 repository "
    "(github.com/xi-j/Mamba-TasNet). They are not part of slyther, "
    "and their licence, not slyther's, applies to them."
)


@dataclass(frozen=True)
class PinnedFile:
    """One file of a published checkpoint. ``path`` is relative to the base URL, not yet quoted."""

    path: str
    sha1: str
    """git blob id: sha1 of ``b"blob <size>\\0"`` and the bytes; "" where ``sha256`` is given instead."""
    size: int
    exact: bool = True
    """Whether ``size`` is known; otherwise it is predicted and only sets the cap."""
    sha256: str = ""

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Entry:
    """One published model."""

    name: str
    task: str
    files: tuple[PinnedFile, ...]
    metrics: dict[str, float]
    sample_rate: int = 8000
    base_url: str = BASE_URL
    source: str = SOURCE
    license: str = LICENSE
    note: str = LICENSE_NOTE
    """What whoever asks for the download is told."""

    @property
    def size(self) -> int:
        """Bytes to download, about."""
        return sum(f.size for f in self.files)


def _entry(
    size: str,
    checkpoint: str,
    ids: tuple[str, str, str],
    sizes: tuple[int, int, int],
    si: float,
    sdr: float,
    kind: str = "mamba-tasnet",
) -> Entry:
    folder = f"{kind.replace('-', '')}_{size.upper()}/1234/save/CKPT+{checkpoint}"
    return Entry(
        name=f"{kind}-{size}",
        task="separate",
        files=(
            PinnedFile(f"{folder}/encoder.ckpt", ids[0], sizes[0]),
            PinnedFile(f"{folder}/masknet.ckpt", ids[1], sizes[1], exact=False),
            PinnedFile(f"{folder}/decoder.ckpt", ids[2], sizes[2]),
        ),
        metrics={"wsj0-2mix test SI-SNRi (dB)": si, "wsj0-2mix test SDRi (dB)": sdr},
    )


ENTRIES: dict[str, Entry] = {
    e.name: e
    for e in (
        _entry(
            "xs",
            "2024-06-21+13-39-29+00",
            (
                "6eb546eb3259d1a8a5e1b7aebf5d5837ae1d1b14",
                "0c6ecfa105884ef71f3db22685bb930ff99856cd",
                "6f1b7f9f8da190b698d9dd8c822c4df2016445c8",
            ),
            (9067, 8924567, 9003),
            19.0405,
            19.2637,
        ),
        _entry(
            "s",
            "2024-06-21+16-45-32+00",
            (
                "705101a8196e0d946caded0b05d019388b783c79",
                "ad877138b3406da198aff69ac0ca6f8e56a67a9e",
                "e258e65861bb103cc9ac003d42b336360eb17a8c",
            ),
            (17259, 31773719, 17195),
            21.4363,
            21.6251,
        ),
        _entry(
            "m",
            "2024-06-04+23-51-03+00",
            (
                "ceddc1869c1e0f816e2abdabd109fde99860f444",
                "1bcce057ed8111eb51b1e1fad30c8af7482c12ac",
                "5ad7a3e9b6a43958fa1ef24f0c1d9e4fff7f087e",
            ),
            (17259, 62757303, 17195),
            22.4364,
            22.6130,
        ),
        _entry(
            "xs",
            "2024-04-19+11-04-45+00",
            (
                "12b356ea5d7d5d6509bb2626e6d6daeff46df7cd",
                "ef5318c0176883923a899171128886a89b742c77",
                "086c183d330f16c7562300cfe75579a08015f2b6",
            ),
            (9067, 9172587, 9003),
            19.1664,
            19.3868,
            "dpmamba",
        ),
        _entry(
            "s",
            "2024-04-25+17-11-58+00",
            (
                "159bb02887c17f60e45c2b2eda76675b753f4931",
                "22e6132b860ff65b8fc63da9402c784d007e96a5",
                "a82825effd00bb507afa0c8cd5f8a340b3e1aa11",
            ),
            (17259, 32637803, 17195),
            21.3938,
            21.5864,
            "dpmamba",
        ),
        _entry(
            "m",
            "2024-04-28+19-13-55+00",
            (
                "e8586026d69b1b657e2fd0c5131132b2ef5c187d",
                "37322691276ab468d8a1627cfcfd08fdaab7a589",
                "c0e58600c5ac76d5ea145f3210ea651307aa8860",
            ),
            (17259, 63694123, 17195),
            22.5640,
            22.7430,
            "dpmamba",
        ),
        Entry(
            name="encodec-24khz",
            task="codec",
            files=(
                PinnedFile(
                    "encodec_24khz-d7cc33bc.th",
                    "",
                    93_171_529,
                    sha256="d7cc33bcf1aad7f2dad9836f36431530744abeace3ca033005e3290ed4fa47bf",
                ),
            ),
            metrics={},
            sample_rate=24_000,
            base_url="https://dl.fbaipublicfiles.com/encodec/v0",
            source="https://github.com/facebookresearch/encodec",
            license="see source",
            note=(
                "These weights were published by Meta with the encodec package, whose release on PyPI says "
                "CC BY-NC 4.0 and whose repository says MIT. They are not part of slyther, and their "
                "licence, not slyther's, applies to them."
            ),
        ),
    )
}
"""Name -> published model. The tests put their own in here."""
