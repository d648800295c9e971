"""docs/reference and the man page say what the commands say; the site has every page, and its links hold."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT / "docs" / "generate.py"
pytestmark = pytest.mark.skipif(not GENERATOR.is_file(), reason="needs the checkout")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate():
    return script("generate")


@pytest.fixture(scope="module")
def site():
    return script("site_pages")


def test_they_have_not_drifted(generate):
    wrong = generate.drifted()
    assert not wrong, f"{', '.join(wrong)}: run `python docs/generate.py`"


def test_drift_is_seen(generate, monkeypatch):
    real = generate.pages

    def changed():
        top = real()
        top.below[0].options.append(generate.Option("--new", "Something new."))
        return top

    monkeypatch.setattr(generate, "pages", changed)
    assert {"docs/reference/separate.md", "docs/slyther.1"} <= set(generate.drifted())


def test_everything_is_in_them(generate):
    """Every option of every command that --help shows."""
    text = (ROOT / "docs" / "slyther.1").read_text(encoding="utf-8").replace("\\-", "-")
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md"))
    command = typer.main.get_command(generate.application.app)
    count = 0

    def walk(command, words):
        nonlocal count
        for param in command.params:
            for flag in (o for o in getattr(param, "opts", ()) if o.startswith("--")):
                if not getattr(param, "hidden", False) and not re.match(r"--\w+_\w+", flag):
                    assert flag in text and flag in pages, (words, flag)
                    count += 1
        if hasattr(command, "list_commands"):
            for name in command.list_commands(typer.Context(command, info_name="x")):
                inner = command.get_command(typer.Context(command, info_name="x"), name)
                assert f"# slyther {' '.join([*words, name])}\n" in pages
                walk(inner, [*words, name])

    walk(command, [])
    assert count > 150


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_man_page_is_sound():
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", ROOT / "docs" / "slyther.1"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and not done.stderr and "SLYTHER(1)" in done.stdout


def test_every_page_is_in_the_site_and_none_is_missing(site):
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r": (\S+\.md)$", nav, re.MULTILINE)
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    pages |= {name for name in site.outside() if name.endswith(".md")}
    assert sorted(named) == sorted(pages) and len(pages) > 30
    assert all(path.is_file() for path in site.outside().values())


def test_links_lead_somewhere(site):
    """In the repository, and in the site."""
    outside = site.outside()
    pages = [*outside, *(p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md"))]
    count = 0
    for page in pages:
        text = site.source(page).read_text(encoding="utf-8")
        for target in site.links(text):
            assert (site.source(page).parent / target).exists(), (page, target)
            count += 1
        for target in site.links(site.for_site(text, page)):
            there = os.path.normpath(os.path.join(os.path.dirname(page), target))
            assert there in outside or (ROOT / "docs" / there).is_file(), (page, target)
    assert count > 40
    assert site.for_site("[a](weights/codec-16k/CARD.md#b)", "index.md") == "[a](cards/codec-16k.md#b)"
    assert site.for_site("[a](../../README.md)", "reference/index.md") == "[a](../index.md)"
    assert site.for_site("[a](nowhere.md)", "index.md") == "[a](nowhere.md)"


ELSEWHERE = ("slyther.toml", "slyther/slyther.toml", "onsets_and_frames/lstm.py")


def test_files_named_in_the_docs_exist():
    """`longform/sweep.py` and the like: the end of a path in the checkout."""
    folders = ("slyther_cli", "native", "tests", "examples", "docs", "weights", ".ci")
    paths = [p.relative_to(ROOT).as_posix() for folder in folders for p in (ROOT / folder).rglob("*.*")]
    paths += [path.name for path in ROOT.iterdir()]
    count = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for name in re.findall(r"`([\w/.-]+\.(?:py|cpp|toml))`", page.read_text(encoding="utf-8")):
            assert name in ELSEWHERE or any(f"/{p}".endswith(f"/{name}") for p in paths), (page.name, name)
            count += 1
    assert count > 40


def test_the_readme_is_short():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150 and max(map(len, lines)) <= 120


def test_the_site_is_built(tmp_path):
    pytest.importorskip("mkdocs", reason="needs the extra docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "cards/codec-16k.html" in (tmp_path / "site/index.html").read_text(encoding="utf-8")


WITHOUT_DEFAULT = (
    "against",
    "arpa",
    "blend",
    "config",
    "hypothesis",
    "input",
    "lexicon",
    "manifest",
    "mixtures",
    "plot",
    "prompt-text",
    "ray",
    "raw",
    "reference",
    "sample-rate",
    "shard",
    "tokenizer",
    "write",
)  # what these name is not used unless they are given


def test_help_says_every_default(generate):
    """Where typer does not print it because it is found later, the help has it in words."""
    silent = [
        f"{' '.join(words)} --{name}"
        for words, name, option in values_of(generate)
        if option.default in (None, "") and not re.search("default|unless|instead", option.help)
        if not option.required
        if name not in WITHOUT_DEFAULT
    ]
    assert not silent


def test_defaults_in_the_help_are_those_of_the_tasks(generate):
    from slyther_cli.commands import options
    from slyther_cli.separation import job as separation
    from slyther_cli.synthesis import voices as speech
    from slyther_cli.transcription import job as transcription
    from slyther_cli.transcription import recogniser

    assert options.SEPARATOR == separation.DEFAULT_MODEL
    assert options.RECOGNISER == transcription.DEFAULT_MODEL
    assert options.VOICE == speech.DEFAULT_MODEL
    assert recogniser.WIDTH * recogniser.LINES == 84 and recogniser.LINES == 2
    own = json.loads((ROOT / "weights" / options.RECOGNISER / "config.json").read_text())["decoding"]
    said = {name: option.help for words, name, option in values_of(generate) if words[-1] == "transcribe"}
    for name, key in (("beam", "beam"), ("lm-weight", "lm_weight"), ("word-bonus", "word_bonus")):
        assert said[name].endswith(f"({options.RECOGNISER}: {own[key]:g}).")


def values_of(generate):
    """(words of the command, long name, option) of all that take a value."""

    def walk(command, words):
        for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
            yield from walk(command.get_command(None, name), (*words, name))
        for option in command.params:
            if option.param_type_name == "option" and not option.is_flag and not option.hidden:
                yield words, next(o for o in option.opts if o.startswith("--"))[2:], option

    yield from walk(typer.main.get_command(generate.application.app), ("slyther",))
