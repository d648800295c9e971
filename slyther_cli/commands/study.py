"""``slyther study``: the papers' studies, on models and speech of one's own."""

from __future__ import annotations

from slyther_cli.commands.options import new_app
from slyther_cli.commands.study_length import length
from slyther_cli.commands.study_mutual_information import mutual_information

app = new_app(help="Repeat the papers' studies on your own models.")


app.command("mutual-information")(mutual_information)
app.command("length")(length)
