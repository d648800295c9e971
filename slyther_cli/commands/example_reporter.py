"""How evaluations tell of their examples: a line each with --json, a bar on a terminal."""

from __future__ import annotations

import sys
from typing import Any

from slyther_cli.commands import output


class ExampleReporter:
    """Called with an event an example, which has its "index" and how many "examples" there are. ``label`` and
    ``text``, a format of the event, stand before and after the bar."""

    def __init__(self, as_json: bool, quiet: bool, label: str, text: str) -> None:
        self.json, self.bar, self.label, self.text = as_json, output.Bar(), label, text
        self.draws = not (as_json or quiet) and output.can_draw(sys.stderr)

    def __call__(self, event: dict[str, Any]) -> None:
        if self.json:
            rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in event.items()}
            output.json_line(str(rounded.pop("event")), **rounded)
        elif self.draws:
            done = event["index"] / event["examples"]
            self.bar.draw(self.label, done, " " + self.text.format(**event))
