"""``slyther models``: every architecture and size, and whether there are weights for it."""

from __future__ import annotations

from typing import Any

from slyther_cli.commands import output
from slyther_cli.commands.options import Json, new_app

app = new_app()


@app.command("models")
def models(
    as_json: Json = False,
) -> None:
    """List the available architectures and sizes, and where their weights are.

    weights: shipped (with slyther), cache (pulled or imported), pull (`slyther weights pull NAME` gets them),
    none (a size to be trained).
    """
    output.json_asked = as_json
    rows = _rows()
    if as_json:
        for row in rows:
            output.json_line("model", **row)
        return
    header = ("name", "architecture", "task", "parameters", "rate", "speakers", "causal", "weights")
    cells = [
        (
            row["name"],
            row["architecture"],
            row["task"],
            f"{row['parameters']:,}",
            str(row["sample_rate"] or "-"),
            str(row["speakers"] or "-"),
            "yes" if row["causal"] else "no",
            row["weights"],
        )
        for row in rows
    ]
    output.print_table(cells, header)


def _rows() -> list[dict[str, Any]]:
    """Models with weights first, then the sizes without."""
    from slyther_cli.checkpoints import catalogue, places
    from slyther_cli.checkpoints.config import read_config
    from slyther_cli.errors import ModelError
    from slyther_cli.models import registry

    found: dict[str, tuple[str, str, dict[str, Any], str]] = {}
    for name, folder, kind in places.available():
        try:
            config = read_config(folder)
            full = registry.full_config(config.architecture, config.config)
        except ModelError as error:
            output.words(f"slyther: {name} is left out: {error}")
            continue
        found[name] = (config.architecture, config.task, full, kind)
    for name, (architecture, settings) in registry.PRESETS.items():
        weights = "pull" if name in catalogue.ENTRIES else "none"
        full = registry.full_config(architecture, settings)
        found.setdefault(name, (architecture, registry.ARCHITECTURES[architecture].task, full, weights))
    return [
        {
            "name": name,
            "architecture": architecture,
            "task": task,
            "parameters": registry.parameter_count(architecture, full),
            "sample_rate": full.get("sample_rate"),
            "speakers": full.get("n_speakers"),
            "causal": bool(full.get("causal", False)),
            "weights": weights,
            "config": full,
        }
        for name, (architecture, task, full, weights) in found.items()
    ]
