"""What ``mkdocs build`` takes from outside docs/ for the site: README, change log and the models' cards.

Links are written as they lead from file to file in the repository; here they are turned into those of the
site. One that leads nowhere is left as it is, and ``mkdocs build --strict`` stops at it.
"""

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def outside() -> dict[str, Path]:
    """Path in the site -> the file that it is made of."""
    cards = {f"cards/{path.parent.name}.md": path for path in sorted(ROOT.glob("weights/*/CARD.md"))}
    return {"index.md": ROOT / "README.md", "changes.md": ROOT / "CHANGELOG.md", **cards} | {
        name: ROOT / name for name in ("CITATION.cff", "LICENSE")
    }


def source(page: str) -> Path:
    """The file of a path in the site."""
    return outside().get(page, DOCS / page)


def links(text: str) -> list[str]:
    """The relative links of a text, without their anchors."""
    found = (target.partition("#")[0] for _, target, _ in LINK.findall(text))
    return [target for target in found if target and "://" not in target and not target.startswith("mailto:")]


def for_site(text: str, page: str) -> str:
    """The text with links that hold in the site, where it has the path ``page``."""
    places = {path: name for name, path in outside().items()}
    here = source(page).parent

    def moved(match: re.Match[str]) -> str:
        target, mark, anchor = match[2].partition("#")
        if not target or "://" in target:
            return match[0]
        file = Path(os.path.normpath(here / target))
        name = places.get(file) or (file.relative_to(DOCS).as_posix() if file.is_relative_to(DOCS) else "")
        if not name or not file.exists():
            return match[0]
        return match[1] + os.path.relpath(name, os.path.dirname(page) or ".") + mark + anchor + match[3]

    return LINK.sub(moved, text)


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs."""
    from mkdocs.structure.files import File

    for name, path in outside().items():
        files.append(File.generated(config, name, content=path.read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called by mkdocs."""
    return for_site(markdown, page.file.src_uri)
