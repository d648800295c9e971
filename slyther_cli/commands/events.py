"""What ``--json`` prints: every event of every command, in one table.

docs/events.md is made from it (``python -m slyther_cli.commands.events > docs/events.md``), and the tests
hold every event that any command prints against it.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from slyther_cli.commands.output import SCHEMA

# An event: its name, its commands, a sentence. Then its fields: name, type, words. "name?" may be missing,
# "type?" may be null, "..." means that further fields may follow.
TABLE = """
start [separate transcribe] A job over recordings begins.
  task         text       separate or transcribe
  version      text       of slyther
  model        text       name of the model
  files        count      how many recordings there are
  output_dir?  text       folder of the results, where one was named or is the default
  shard?       text       I/N, where --shard asks for a part
  jobs?        count      processes, where there are several
  ray?         text       the Ray cluster that works

start [speak] Speaking begins.
  task         text       speak
  version      text       of slyther
  model        text       name of the voice
  device       text       cpu or cuda:N
  seed         count      of everything that is drawn
  alphabet     text       what the voice reads: graphemes, arpabet, espeak
  sample_rate  count      Hz
  guard        text       who checks the sentences

start [train] A training run begins.
  version      text       of slyther
  model        text       name of the model
  parameters   count      how many numbers are learnt
  speakers     count      in the training speech
  train_hours  number     of speech
  ...

plan [separate transcribe] What a recording will take, before it is computed.
  file         text       as it was named; "-" is standard input
  lines        texts      plain sentences, those of -v
  device       text       cpu or cuda:N
  seconds      number?    length of the recording; null while it is not known

note [separate transcribe speak] Something worth knowing.
  file         text       as it was named
  text         text       in words

progress [separate transcribe] How far a recording is; at most one a second.
  file           text     as it was named
  index          count    its number in the batch, from 0
  files          count    how many there are
  fraction       number   of the recording that is computed, 0 to 1
  began          number   the fraction that an earlier run did (--resume)
  seconds        number   length of the recording
  wall_seconds   number   in this run, so far
  speed          number   seconds of sound a second
  left_seconds   number?  until the recording is done, as far as one can tell
  files_done     count    how many are done with
  batch_fraction      number   of the sound of all of them that is done with, 0 to 1
  batch_left_seconds  number?  until all are done, as far as one can tell

progress [train] How much speech is made (train synthesize).
  hours        number     so far
  of           number     asked for
  utterances   count      so far

progress [study] How far a study is.
  ...

live [separate] How far a live input is; at most one a second.
  file             text    always "-"
  heard_seconds    number  of sound that came
  written_seconds  number  of stems that are written

partial [transcribe] Live: what is heard beyond the last segment, and may still change.
  file   text    always "-"
  start  number  seconds from the recording's start
  end    number  seconds
  text   text    with a space before it

segment [transcribe] A piece of the transcript, final; in order of time.
  file               text     as it was named
  id                 count    its number in the recording, from 0
  seek               count    0, for whisper's readers
  start              number   seconds from the recording's start
  end                number   seconds
  text               text     with a space before it
  tokens             list     numbers of the model's alphabet
  temperature        number   0, for whisper's readers
  avg_logprob        number   mean log-probability of the tokens
  compression_ratio  number   as whisper's
  no_speech_prob     number   0, for whisper's readers
  words?             objects  {word, start, end, probability}
  speaker?           text     S1, S2, ..., with --separate and --channel each

sentence [speak] A sentence is spoken.
  index         count   its number, from 0
  of            count   how many there are
  text          text    what was said
  seconds       number  how long it is
  tries         count   how often it was said
  heard         text?   what the guard's recogniser heard
  problems      texts   what the guard doubts
  kept          flag    it comes from a stopped run (--resume)
  end_seconds   number  of speech so far
  wall_seconds  number  so far

file_done [separate transcribe speak] An input is done with: computed, skipped or planned.
  file          text    as it was named
  status        text    done, skipped (results are there; without outputs: on the way), planned (--dry-run)
  outputs       object  stem or format -> path
  sample_rate   count   Hz, of the recording; 0 when it was not opened
  frames        count   length of the recording
  seconds       number  length of the recording
  wall_seconds  number  that it took
  notes         texts   what was done to the sound and found in it
  estimate_seconds?  number  --dry-run: the work that it would be here, as measured with a little noise
  words?        count   transcribe: how many were heard
  sentences?    count   speak: how many were spoken
  retried?      count   speak: of them, said more than once
  doubtful?     count   speak: of them, still doubted by the guard
  synthetic?    flag    speak: always true

error [*] An input failed, or the command ended.
  file       text?  the input; null when the command ends
  kind       text   usage, file, model, device or unexpected
  message    text   one line
  exit_code  count  what the command would end with for this alone

summary [separate transcribe] The job is over; always the last event of a job that was not stopped.
  files          count   how many there were
  done           count   of them
  skipped        count   of them
  planned        count   of them
  failed         count   of them
  audio_seconds  number  of sound in those that are done
  wall_seconds   number  of the job
  estimate_seconds?  number  --dry-run: the work that all would be here, with --jobs as many at once

train [train] How training goes, every few seconds.
  step      count   steps done
  minutes   number  of training, over all runs
  loss      number  mean since the last such event
  metric    number  likewise; what it is depends on the task
  grad      number  norm of the last gradient
  progress  number  share of the budget that is spent, 0 to 1

validate [train] The model was scored on the dev set.
  step      count   steps done
  minutes   number  of training, over all runs
  score     number  higher is better; best/ is the model with the highest
  ...

skipped [train] A step did not count.
  step      count   steps done
  minutes   number  of training, over all runs
  why       text    in words

text [train] A text was read (train lm).
  file       text   its name
  sentences  count  in it
  words      count  in it
  left_out   count  lines that share six words in a row with protected text

done [train] The speech is made (train synthesize).
  hours       number  of speech
  utterances  count   of them

example [eval study] An example was scored.
  index     count  its number, from 1
  examples  count  how many there are
  ...

summary [train] Training is over.
  task       text  train_separate, train_transcribe, train_speak, train_codec, train_lm, train_synthesize
  model?     text  path of the best model
  manifest?  text  path of the speech (train synthesize)
  ...

summary [eval] The figures; see docs/training.md.
  task  text  eval_separate, eval_transcribe, eval_speak, eval_codec
  ...

model [models] An architecture of a size.
  name          text    for --model, if there are weights
  architecture  text    name of the network
  task          text    separate, transcribe, speak, codec
  parameters    count   how many
  sample_rate   count?  Hz
  speakers      count?  that it tells apart
  causal        flag    whether it can hear live
  weights       text    shipped, cache, pull or none
  config        object  all settings of the network

weights [weights] Weights, here or to be pulled.
  name    text    of the model
  path?   text?   its folder; null when it is not here
  bytes?  count   size
  where?  text    shipped, cache, pull or damaged (weights list)
  ...

doctor [doctor] All that `slyther doctor` found.
  versions   object  package -> version
  computing  object  devices, backends, threads
  models     object  found here
  speaking   object  what spells words
  settings   object  file and its state, what is said in it, SLYTHER_* variables
  streams    object  stdin, stdout, stderr and variables of the terminal
  problems   texts   that keep slyther, or a command, from working
  advice     texts   that would make it work better
  ...

bench_scan [bench] The scan on one backend.
  backend                 text    name
  isa                     text    instruction set, or device
  pass                    text    forward or backward
  gelem_per_s             number  1e9 state updates a second
  speedup_over_reference  number  times
  ...

bench_separate [bench] What separating costs.
  model    text    name
  seconds  number  of sound
  problem  text    why there are no figures, or ""
  ...

bench_longform [bench] Long recordings.
  part     text    memory, speed or quality
  seconds  number  of sound
  ...

bench_efficiency [bench] A network at a length.
  kind     text    mamba or transformer
  seconds  number  of sound
  problem  text    why there are no figures, or ""
  ...

bench_transcribe [bench] What transcribing costs, and how true its times are.
  part     text    cost or times
  model?   text    whose times
  problem  text    why there are no figures, or ""
  ...

bench_efficiency_crossover [bench] From where on Mamba stays ahead.
  task             text     of the networks
  what             text     time or memory
  from_seconds     number?  null: it does not at the longest
  after_seconds    number?  the longest length where it is not ahead
  longest_seconds  number?  measured for both
  ratio            number?  there: the Transformer's figure over Mamba's

length_set [study] Recordings of a length were made.
  set         text    single, or the most seconds
  recordings  count   how many are heard
  seconds     number  of sound in them
  dropped     number  seconds of the split that fit into none

length [study] A recogniser's error rates at a length.
  set           text    single, or the most seconds
  system        text    name of the model
  mean_seconds  number  of a recording
  wer           object  percent: value, low and high of a 95 % interval (null for one item)
  ...

mutual_information [study] A layer's mutual information with the input.
  layer  count  its number
  ...

mutual_information_pattern [study] What the layers show together.
  ...
"""

TYPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "text": ("text", lambda v: isinstance(v, str)),
    "count": ("integer, 0 or more", lambda v: type(v) is int and v >= 0),
    "number": ("number", lambda v: isinstance(v, numbers.Real) and not isinstance(v, bool)),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
    "list": ("list", lambda v: isinstance(v, list)),
    "texts": ("list of texts", lambda v: isinstance(v, list) and all(isinstance(x, str) for x in v)),
    "objects": ("list of objects", lambda v: isinstance(v, list) and all(isinstance(x, dict) for x in v)),
    "object": ("object", lambda v: isinstance(v, dict)),
}


@dataclass(frozen=True)
class Field:
    name: str
    type: str
    words: str
    optional: bool
    nullable: bool


@dataclass(frozen=True)
class Event:
    """``more``: there may be further fields."""

    name: str
    commands: tuple[str, ...]
    words: str
    fields: tuple[Field, ...]
    more: bool


def events() -> list[Event]:
    """The table. Raises ValueError where it is malformed."""
    found = []
    for block in TABLE.strip().split("\n\n"):
        head, *rows = block.splitlines()
        match = re.fullmatch(r"(\w+) \[([^]]+)\] (.+)", head)
        if match is None:
            raise ValueError(f"no event: {head}")
        fields = []
        for row in rows:
            if row.strip() == "...":
                continue
            name, kind, words = row.split(maxsplit=2)
            if kind.rstrip("?") not in TYPES:
                raise ValueError(f"{match[1]}: no type: {row}")
            fields.append(
                Field(name.rstrip("?"), kind.rstrip("?"), words, name.endswith("?"), kind.endswith("?"))
            )
        more = bool(rows) and rows[-1].strip() == "..."
        found.append(Event(match[1], tuple(match[2].split()), match[3], tuple(fields), more))
    return found


def problems(line: dict[str, Any], command: str | None = None) -> list[str]:
    """How a line of ``--json`` differs from the table; nothing if it does not. ``command``: the first word of
    what printed it; None: any."""
    if line.get("schema") != SCHEMA:
        return [f"schema is {line.get('schema')!r}, not {SCHEMA}"]
    known = [
        event
        for event in events()
        if event.name == line.get("event") and (command is None or {command, "*"} & {*event.commands})
    ]
    if not known:
        return [f"event {line.get('event')!r} is not in slyther_cli/commands/events.py"]
    return min((_problems(line, event) for event in known), key=len)


def _problems(line: dict[str, Any], event: Event) -> list[str]:
    found = []
    for field in event.fields:
        if field.name not in line:
            found += [] if field.optional else [f"{event.name}: {field.name} is missing"]
        elif not ((line[field.name] is None and field.nullable) or TYPES[field.type][1](line[field.name])):
            found.append(f"{event.name}: {field.name} = {line[field.name]!r} is no {field.type}")
    extra = line.keys() - {"schema", "event"} - {field.name for field in event.fields}
    if extra and not event.more:
        found.append(f"{event.name}: {', '.join(sorted(extra))} is not in slyther_cli/commands/events.py")
    return found


def page() -> str:
    """docs/events.md."""
    out = [HEAD]
    for event in events():
        which = "any command" if event.commands == ("*",) else ", ".join(event.commands)
        out.append(f"## `{event.name}`: {which}\n\n{event.words}\n")
        if event.fields:
            out.append("| field | type | |\n|---|---|---|")
        for field in event.fields:
            kind = TYPES[field.type][0] + (" or null" if field.nullable else "")
            words = field.words + (" (not always there)" if field.optional else "")
            out.append(f"| `{field.name}` | {kind} | {words} |")
        out.append(("\nFurther fields may follow.\n" if event.more else "").rstrip() + "\n")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).rstrip() + "\n"


HEAD = """# Events

<!-- made by `python -m slyther_cli.commands.events > docs/events.md`; do not edit -->

With `--json` every command prints one JSON object a line on standard output, and nothing else there; words
stay on standard error. Every line has `"schema": 1` and an `"event"`. A field that is added does not change
the schema; one that is taken away, or means something else, does.

    slyther separate calls/ --json | jq -r 'select(.event == "error") | .file'

A job over recordings prints `start`, then for each recording `plan`, `progress` (at most one a second),
`segment` (transcribe), and one of `file_done` and `error`, then `summary`. With `--jobs` the events of
several recordings mix; `file` tells whose they are. Numbers that are not finite are null.
"""


if __name__ == "__main__":
    print(page(), end="")
