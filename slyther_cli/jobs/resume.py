"""Work that a killed job leaves behind, and that the same command with ``--resume`` goes on from.

Any task whose engine keeps a journal (``longform.journal``) uses it so, with everything that its results
depend on in ``options``:

    check_source(source)                                 # before anything is done
    skip = all outputs are there and not is_unfinished(source, outputs, work_dir)
    held = held_bytes(source, outputs, work_dir)
    plan = plan_...(..., work_dir=work_place(work_dir), resume=True, held=held)
    with open_job(source, outputs, model, name, options, work_dir, device) as job:
        ... encode_whole(..., job=job) or separate_whole(..., job=job), the outputs put in their places
        job.remove()
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slyther_cli.audio.discover import shown
from slyther_cli.checkpoints import places
from slyther_cli.errors import InputError

if TYPE_CHECKING:
    from slyther_cli.longform.journal import Journal

VOICES_FACTS = "voices.json"


def work_place(work_dir: Path | None) -> Path:
    """Where the work of jobs lies: ``--work-dir``, else a folder of the cache, which outlasts a restart."""
    return work_dir if work_dir is not None else places.cache_dir() / "work"


def check_source(source: str) -> None:
    """Raises :class:`InputError` for what a later run could not read again: standard input, a pipe."""
    try:
        once = source == "-" or stat.S_ISFIFO(Path(source).stat().st_mode)
    except (OSError, ValueError):  # whoever opens it will say so
        return
    if once:
        what = "standard input" if source == "-" else shown(source)
        raise InputError(f"{what} cannot be read again by a later run: --resume needs a file")


def is_unfinished(source: str, outputs: list[Path], work_dir: Path | None) -> bool:
    """Whether an earlier run began this job and did not end it, though its outputs may be there already.

    The tape, and of several voices the facts, are what goes first when a job has ended.
    """
    facts = voices_folder(source, outputs, work_dir) / VOICES_FACTS
    return _tape(source, outputs, work_dir).exists() or facts.exists()


def held_bytes(source: str, outputs: list[Path], work_dir: Path | None) -> int:
    """What the job's work file takes of the disk already."""
    try:
        return _tape(source, outputs, work_dir).stat().st_blocks * 512
    except OSError:
        return 0


def voices_folder(source: str, outputs: list[Path], work_dir: Path | None) -> Path:
    """Where a job with several voices keeps its work (``transcription.multi_speaker``); in it VOICES_FACTS,
    what it is."""
    from slyther_cli.longform.journal import job_name

    return work_place(work_dir) / f"{job_name(Path(source), outputs)}-voices"


def _tape(source: str, outputs: list[Path], work_dir: Path | None) -> Path:
    from slyther_cli.longform.journal import job_name

    return work_place(work_dir) / job_name(Path(source), outputs) / "tape"


def open_job(
    source: str,
    outputs: list[Path],
    model: Any,
    name: str,
    options: Mapping[str, Any],
    work_dir: Path | None,
    device: str,
) -> Journal:
    """The journal of the job that makes ``outputs`` of the file ``source`` with ``model``, called ``name``.

    ``options``: JSON values of all that the outputs depend on beside recording, model and device. The
    journal is locked until it is closed. Raises what :class:`longform.journal.Journal` raises.
    """
    from slyther_cli.longform.journal import Journal, job_facts, job_name

    facts = job_facts(Path(source), model, name, options, device)
    return Journal(work_place(work_dir), job_name(Path(source), outputs), facts)
