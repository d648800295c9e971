"""docs/reference and the man page say what the commands say."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parent.parent
GENERATOR = ROOT / "docs" / "generate.py"
pytestmark = pytest.mark.skipif(not GENERATOR.is_file(), reason="needs the checkout")


@pytest.fixture(scope="module")
def generate():
    spec = importlib.util.spec_from_file_location("generate", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
