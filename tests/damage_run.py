"""Runs damaged files through slyther, one after another, and prints what went wrong as JSON lines.

    python tests/damage_run.py KIND FIRST COUNT [SECONDS]

Each case KIND-NUMBER must end in SECONDS with a result or with one line of a SlytherError, leave nothing half
done, and not take MEMORY. In a process of its own, so that a crash of native code is seen as well.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from damage_kinds import KINDS

from slyther_cli.errors import SlytherError

MEMORY = 256 << 20  # bytes that one case may add to the process's peak
ROOM = 2 << 30  # of address space beyond what the process has


class Slow(BaseException):
    """A case took too long."""


def _slow(*_):
    raise Slow


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def one(kind, number: int, folder: Path, seconds: float = 10.0) -> tuple[str, str]:
    """("used" or "refused" or "WRONG", what was said) of case ``number``, made and used in ``folder``."""
    kind.write(folder, random.Random(f"{type(kind).__name__}-{number}"))
    before = peak()
    clocks = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, 12 * seconds),
    }
    old = {number: signal.signal(number, _slow) for number in clocks}
    for clock, limit in clocks.values():  # of the processor, and, where it waits for something, of the wall
        signal.setitimer(clock, limit)
    try:
        kind.use(folder)
        outcome, said = "used", ""
    except SlytherError as error:
        said = str(error)
        fine = bool(said) and said.isprintable() and len(said) < 1000
        outcome = "refused" if fine else "WRONG"
        said = said if fine else f"no clean line: {said!r}"
    except Slow:
        outcome, said = "WRONG", f"took more than {seconds:g} s"
    except Exception:
        outcome, said = "WRONG", traceback.format_exc(limit=-4)
    finally:
        for number, (clock, _) in clocks.items():
            signal.setitimer(clock, 0)
            signal.signal(number, old[number])
    if peak() - before > MEMORY:
        outcome, said = "WRONG", f"took {(peak() - before) >> 20} MB; {said}"
    return outcome, said


def main() -> None:
    name, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    seconds = float(sys.argv[4]) if len(sys.argv) > 4 else 10.0
    tally = {"used": 0, "refused": 0, "WRONG": 0}
    with tempfile.TemporaryDirectory(prefix="slyther-damage-") as home:
        os.environ["SLYTHER_CACHE"] = f"{home}/cache"
        kind = KINDS[name](Path(home, "whole"))
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, used + ROOM))
        for number in range(first, first + count):
            print(json.dumps({"begin": number}), flush=True)
            folder = Path(home, "case")
            folder.mkdir()
            outcome, said = one(kind, number, folder, seconds)
            tally[outcome] += 1
            if os.environ.get("SLYTHER_DEBUG"):
                print(number, outcome, said, file=sys.stderr)
            if outcome == "WRONG":
                print(json.dumps({"wrong": f"{name} {number}", "said": said}), flush=True)
            shutil.rmtree(folder)
    print(json.dumps({"tally": tally}), flush=True)


if __name__ == "__main__":
    main()
