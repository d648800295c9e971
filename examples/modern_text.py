"""Modern spoken and chatted English for the shipped language model, out of clones of public repositories.

    for r in thechangelog/transcripts walkerdb/supreme_court_transcripts alexa/Topical-Chat \\
        google-research-datasets/Taskmaster google-research-datasets/dstc8-schema-guided-dialogue
    do git clone --bare https://github.com/$r clones/$(basename $r); done
    python examples/modern_text.py clones text

writes a file for each, a paragraph a line: podcasts on software (CC BY-SA 4.0), oral arguments before the
Supreme Court of the United States (public domain; the latest nine million words), people who chat, order and
book (CDLA-Sharing 1.0, CC BY 4.0, CC BY-SA 4.0).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_WORDS = 9_000_000  # of the oral arguments
SINCE = 1995
CASE = re.compile(r"oyez/cases/(\d{4})\..*-t\d+\.json")
EPISODE = re.compile(r"(?!bigtent/|rfc/|scripts/|\.)[^/]+/.+\.md")
SPEAKER = re.compile(r"^\*\*[^*]{1,60}:\*\*")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
ASIDE = re.compile(r"\[[^\]]*\]|<[^>]*>|\{[^}]*\}")
CHATS = {
    "Taskmaster": (re.compile(r"(?!.*/ontology).*\.json"), "text"),
    "dstc8-schema-guided-dialogue": (re.compile(r".*dialogues.*\.json"), "utterance"),
    "Topical-Chat": (re.compile(r"conversations/.*\.json"), "message"),
}


def main(clones: Path, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    names = {"transcripts": podcasts, "supreme_court_transcripts": arguments}
    for clone in sorted(clones.iterdir()):
        lines = names[clone.name](clone) if clone.name in names else chats(clone)
        words = 0
        with open(out / f"{clone.name}.txt", "w", encoding="utf-8") as file:
            for line in filter(None, map(plain, lines)):
                file.write(line + "\n")
                words += line.count(" ") + 1
        print(out / f"{clone.name}.txt", words, "words")


def contents(clone: Path, wanted: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """The names and the texts of the newest commit's files."""
    git = ["git", "-C", str(clone)]
    names = subprocess.run([*git, "ls-tree", "-rz", "--name-only", "HEAD"], check=True, capture_output=True)
    reader = subprocess.Popen([*git, "cat-file", "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdin and reader.stdout
    for name in filter(wanted.fullmatch, names.stdout.decode().split("\0")):
        reader.stdin.write(f"HEAD:{name}\n".encode())
        reader.stdin.flush()
        about = reader.stdout.readline().split()
        if about[1:2] == [b"blob"]:
            yield name, reader.stdout.read(int(about[2]) + 1)[:-1].decode("utf-8", "replace")
    reader.stdin.close()


def plain(line: str) -> str:
    line = ASIDE.sub(" ", LINK.sub(r"\1", line).replace("\\", ""))
    for old, new in {"’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "—": " - ", "–": " - "}.items():
        line = line.replace(old, new)
    return " ".join(re.sub(r"[*_`#~|]+", " ", line).split())


def podcasts(clone: Path) -> Iterator[str]:
    for _, text in contents(clone, EPISODE):
        yield from (SPEAKER.sub("", line.strip()) for line in text.split("\n"))


def arguments(clone: Path) -> Iterator[str]:
    """The turns of the latest arguments, the last one first."""
    said: list[str] = []
    for name, text in contents(clone, CASE):
        found = CASE.fullmatch(name)
        if found and int(found[1]) >= SINCE:
            for section in (json.loads(text).get("transcript") or {}).get("sections") or []:
                for turn in section.get("turns") or []:
                    blocks = turn.get("text_blocks") or []
                    said.append(" ".join(block.get("text") or "" for block in blocks))
    words = 0
    for turn in reversed(said):
        yield turn
        words += len(turn.split())
        if words > MOST_WORDS:
            return


def chats(clone: Path) -> Iterator[str]:
    wanted, key = CHATS[clone.name]
    seen: set[str] = set()
    for _, text in contents(clone, wanted):
        for line in values(json.loads(text), key):
            if line not in seen:
                seen.add(line)
                yield line


def values(tree: Any, key: str) -> Iterator[str]:
    """Every text under that key, at any depth."""
    for name, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if name == key and isinstance(branch, str):
            yield branch
        elif isinstance(branch, dict | list):
            yield from values(branch, key)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
