"""Imports run one way: every room of slyther_cli imports only rooms below it, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "slyther_cli"
LEVELS = [
    {"app", "__main__"},
    {"commands"},
    {"research"},
    {"synthesis"},
    {"transcription"},
    {"separation"},
    {"jobs"},
    {"longform"},
    {"checkpoints"},
    {"models"},
    {"layers"},
    {"scan"},
    {"decode"},
    {"books"},
    {"english"},
    {"audio"},
    {"runtime", "errors", "files", "untrusted"},
    {"__init__"},
]
LEVEL = {room: i for i, rooms in enumerate(LEVELS) for room in rooms}


def module_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def room(module):
    return module.split(".")[0]


MODULES = {module_of(p): p for p in PACKAGE.rglob("*.py")}


def imported(path):
    """The modules of slyther_cli that a file imports, at its top or inside a function; not for types
    alone."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{a.name}" for a in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] != "slyther_cli":
                continue
            inner = parts[1:]
            while inner and ".".join(inner) not in MODULES and ".".join([*inner, "__init__"]) not in MODULES:
                inner.pop()
            yield ".".join(inner) if ".".join(inner) in MODULES else ".".join([*inner, "__init__"])


IMPORTS = {module: sorted(set(imported(path)) - {module}) for module, path in MODULES.items()}


def test_every_room_has_a_level():
    assert {room(m) for m in MODULES} <= set(LEVEL)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_downward(module):
    above = [i for i in IMPORTS[module] if LEVEL[room(i)] < LEVEL[room(module)]]
    assert not above, f"{module} imports {above}"


def test_nothing_imports_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_only_commands_import_research():
    assert not [
        m
        for m, i in IMPORTS.items()
        if room(m) not in ("commands", "research") and "research" in map(room, i)
    ]


def test_the_core_tests_are_there():
    """``conftest.CORE`` names tests that exist."""
    import conftest

    for module, names in conftest.CORE.items():
        tree = ast.parse((Path(__file__).parent / f"{module}.py").read_text())
        assert names <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, module
