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
  version      text       version of slyther
  model        text       name of the model
  files        count      how many recordings there are
  options      object     the options that are not at their default, as named in Python
  output_dir?  text       folder of the results, where one was named or is the default
  shard?       text       I/N, where --shard asks for a part
  jobs?        count      processes, where there are several
  ray?         text       the Ray cluster that works

start [speak] Speaking begins.
  task         text       speak
  version      text       version of slyther
  model        text       name of the model
  voice        text?      which of the model's voices; null after a prompt, or where it has none
  device       text       cpu or cuda:N
  options      object     the options that are not at their default, as named in Python
  seed         count      random seed
  alphabet     text       what the voice reads: graphemes, arpabet, espeak
  sample_rate  count      Hz
  guard        text       the speech check in use
  chapters     count      number of chapters

start [train] A training run begins.
  version      text       version of slyther
  model        text       name of the model
  parameters   count      number of trained parameters
  speakers     count      in the training speech
  train_hours  number     of training speech
  ...

plan [separate transcribe] What a recording will take, before it is computed.
  file         text       as it was named; "-" is standard input
  lines        texts      the plan in words, as printed by -v
  device       text       cpu or cuda:N
  seconds      number?    length of the recording; null while it is not known

note [separate transcribe speak] A note for the user.
  file         text       as it was named
  text         text       the note

progress [separate transcribe] Progress of a recording; at most one a second.
  file           text     as it was named
  index          count    its number in the batch, from 0
  files          count    how many there are
  fraction       number   share of the recording that is done, 0 to 1
  began          number   share that an earlier run did (--resume)
  seconds        number   length of the recording
  wall_seconds   number   time in this run so far
  speed          number   seconds of sound per second
  left_seconds   number?  estimated time until the recording is done
  files_done     count    recordings done
  batch_fraction      number   share of the sound of the whole batch that is done, 0 to 1
  batch_left_seconds  number?  estimated time until the batch is done

progress [train] Progress of train synthesize.
  hours        number     hours of speech so far
  of           number     hours requested
  utterances   count      utterances so far

progress [study] Progress of a study.
  ...

live [separate] Progress of a live input; at most one a second.
  file             text    always "-"
  heard_seconds    number  sound received
  written_seconds  number  length of the stems so far

partial [transcribe] Live: text after the last segment, which may still change.
  file   text    always "-"
  start  number  seconds from the recording's start
  end    number  seconds
  text   text    with a space before it

segment [transcribe] A final segment of the transcript, in order of time.
  file               text     as it was named
  id                 count    its number in the recording, from 0
  seek               count    always 0, as whisper's format has it
  start              number   seconds from the recording's start
  end                number   seconds
  text               text     with a space before it
  tokens             list     indices into the model's alphabet
  temperature        number   always 0, as whisper's format has it
  avg_logprob        number   mean log-probability of the tokens
  compression_ratio  number   as in whisper
  no_speech_prob     number   always 0, as whisper's format has it
  words?             objects  {word, start, end, probability}
  speaker?           text     S1, S2, ..., with --separate and --channel each

sentence [speak] A sentence is spoken.
  index         count   its number, from 0
  of            count   number of sentences
  text          text    the sentence
  seconds       number  its length
  tries         count   how often it was spoken
  heard         text?   what the speech check recognised
  problems      texts   why it failed the speech check
  readings      texts   how words with several readings were read, as "read: R EH1 D"
  kept          flag    whether it comes from a stopped run (--resume)
  end_seconds   number  speech so far
  wall_seconds  number  time so far
  left_seconds  number?  estimated time until all is spoken
  chapter?      count   number of its chapter, from 1, where there are several
  chapters?     count   number of chapters, where there are several

chapter [speak] A chapter of a book is complete.
  number   count   its number, from 1
  of       count   number of chapters
  title    text    its title; "Chapter N" where it has none
  start    number  seconds at which it begins in its file
  end      number  seconds at which it ends
  outputs  object  with --chapters files: its files by what they are; otherwise empty
  kept     flag    whether its file was there (--resume)

file_done [separate transcribe speak] An input is finished: computed, skipped or planned.
  file          text    as it was named
  status        text    done, skipped (results exist, or another run makes them), planned (--dry-run)
  outputs       object  stem or format -> path
  sample_rate   count   Hz, of the recording; 0 when it was not opened
  frames        count   length of the recording
  seconds       number  length of the recording
  wall_seconds  number  time taken
  notes         texts   what was done to the sound or found in it
  estimate_seconds?  number  --dry-run: estimated time here, measured with a little noise
  words?        count   transcribe: number of words
  sentences?    count   speak: number of sentences
  retried?      count   speak: those spoken more than once
  doubtful?     count   speak: those that still fail the speech check
  synthetic?    flag    speak: always true

error [*] An input failed, or the command ended.
  file       text?  the input; null when the command ends
  kind       text   usage, file, model, device or unexpected
  message    text   one line
  exit_code  count  exit code for this error alone

summary [separate transcribe] The job is over; always the last event of a job that was not stopped.
  files          count   number of inputs
  done           count   inputs done
  skipped        count   inputs skipped
  planned        count   inputs planned
  failed         count   inputs failed
  audio_seconds  number  sound in those that are done
  wall_seconds   number  time of the job
  estimate_seconds?  number  --dry-run: estimated time of the batch, with --jobs as many at once

train [train] Progress of training, every few seconds.
  step      count   steps done
  minutes   number  of training, over all runs
  loss      number  mean since the last such event
  metric    number  likewise; depends on the task
  grad      number  norm of the last gradient
  progress  number  share of the budget used, 0 to 1

validate [train] The model was scored on the dev set.
  step      count   steps done
  minutes   number  of training, over all runs
  score     number  higher is better; best/ is the model with the highest
  ...

skipped [train] A step was discarded.
  step      count   steps done
  minutes   number  of training, over all runs
  why       text    reason

text [train] A text was read (train lm).
  file       text   its name
  sentences  count  number of sentences
  words      count  number of words
  left_out   count  lines that share six words in a row with protected text

done [train] train synthesize has finished.
  hours       number  hours of speech
  utterances  count   number of utterances

example [eval study] An example was scored.
  index     count  its number, from 1
  examples  count  how many there are
  ...

summary [train] Training is over.
  task       text  train_ and what is trained or made: train_separate, train_lm, train_manifest
  model?     text  path of the best model
  manifest?  text  path of the speech (train synthesize, align and manifest)
  ...

summary [eval] The figures; see docs/training.md.
  task  text  eval_separate, eval_transcribe, eval_diarization, eval_punctuation, eval_speak, eval_codec
  ...

model [models] An architecture of a size.
  name          text    for --model, if there are weights
  architecture  text    name of the network
  task          text    separate, transcribe, speak, codec
  parameters    count   number of parameters
  sample_rate   count?  Hz
  speakers      count?  number of speakers it separates
  causal        flag    whether it can run live
  weights       text    shipped, cache, pull or none
  config        object  all settings of the network

voice [speak] A voice of a model (--list-voices).
  model    text  name of the model
  name     text  for --voice
  default  flag  whether it speaks where none is named
  sex?     text  female, male
  accent?  text  such as British

weights [weights] Weights, on this machine or to be pulled.
  name    text    name of the model
  path?   text?   its folder; null when it is not here
  bytes?  count   size
  where?  text    shipped, cache, pull or damaged (weights list)
  ...

doctor [doctor] All that `slyther doctor` found.
  versions   object  package -> version
  computing  object  devices, backends, threads
  models     object  models on this machine
  speaking   object  alphabets of voices that work here
  settings   object  settings file, its content, SLYTHER_* variables
  streams    object  stdin, stdout, stderr and variables of the terminal
  problems   texts   what keeps slyther, or a command, from working
  advice     texts   what would make it work better
  ...

bench_scan [bench] The scan on one backend.
  backend                 text    name
  isa                     text    instruction set, or device
  pass                    text    forward or backward
  gelem_per_s             number  1e9 state updates a second
  speedup_over_reference  number  speed, as a multiple of the reference's
  ...

bench_separate [bench] Cost of separation.
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

bench_transcribe [bench] Cost of transcription, and error of its times.
  part     text    cost or times
  model?   text    name
  problem  text    why there are no figures, or ""
  ...

bench_efficiency_crossover [bench] The duration from which Mamba stays ahead.
  task             text     of the networks
  what             text     time or memory
  from_seconds     number?  that duration; null if Mamba is behind at the longest
  after_seconds    number?  longest duration where it is not ahead
  longest_seconds  number?  longest duration measured for both
  ratio            number?  the Transformer's figure over Mamba's at that duration

length_set [study] Recordings of a length were made.
  set         text    single, or the longest seconds
  recordings  count   number of recordings
  seconds     number  sound in them
  dropped     number  seconds of the split that fit into none

length [study] A recogniser's error rates at a length.
  set           text    single, or the longest seconds
  system        text    name of the model
  mean_seconds  number  mean length of a recording
  wer           object  percent: value, low and high of a 95 % interval (null for one item)
  ...

mutual_information [study] A layer's mutual information with the input.
  layer  count  its number
  ...

mutual_information_pattern [study] The shape of the curve over all layers.
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

With `--json` every command prints one JSON object a line on standard output and nothing else there; messages
for people go to standard error. Every line has `"schema": 1` and an `"event"`. Adding a field does not change
the schema; removing one, or changing its meaning, does.

    slyther separate calls/ --json | jq -r 'select(.event == "error") | .file'

A job over recordings prints `start`, then for each recording `plan`, `progress` (at most one a second),
`segment` (transcribe), and one of `file_done` and `error`, then `summary`. With `--jobs` the events of
several recordings mix; `file` says whose they are. Numbers that are not finite are null.
"""


if __name__ == "__main__":
    print(page(), end="")
