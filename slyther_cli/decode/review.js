"use strict";
(() => {
  const STEP = 5; // seconds of an arrow key
  const LINGER = 0.25; // seconds that a word stays lit when it is over
  const UNSURE = 0.5; // words less likely than this are marked
  const ALONE = 5000; // milliseconds without following, after the reader scrolled

  const $ = (id) => document.getElementById(id);
  const read = (id) => JSON.parse($(id).textContent);
  const make = (name, kind, text) =>
    Object.assign(document.createElement(name), { className: kind || "", textContent: text || "" });
  const about = read("recording");
  const audio = $("audio"), list = $("list"), wave = $("wave");
  const speakers = [];
  const segments = read("transcript").map(({ start, end, speaker = "", begins = false, words }) => {
    if (speaker && !speakers.includes(speaker)) speakers.push(speaker);
    const said = words.flatMap(([text, from, to, sure]) => {
      const parts = text.split(/\s+/), step = (to - from) / parts.length; // "9:45 a.m." is two words here
      return parts.map((part, i) => (
        { text: part, start: from + i * step, end: from + (i + 1) * step, sure }
      ));
    });
    return { start, end, speaker, begins, words: said, original: said, edited: false };
  });
  const colour = (speaker) => `var(--speaker-${speakers.indexOf(speaker) % 8})`;
  const tell = (text) => { $("status").textContent = text; };

  function clock(seconds) {
    const whole = Math.floor(seconds), two = (n) => String(n).padStart(2, "0");
    const minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
    return hours ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
  }

  // The transcript

  function showWords(segment) {
    const text = segment.element.querySelector(".text");
    text.replaceChildren();
    segment.words.forEach((word, i) => {
      if (i) text.append(" ");
      word.element = make("span", "word", word.text);
      word.element.dataset.index = i;
      if (word.sure === null) {
        word.element.classList.add("new");
      } else if (word.sure < UNSURE) {
        word.element.classList.add("low");
        word.element.title = `uncertain: ${Math.round(100 * word.sure)} %`;
      }
      text.append(word.element);
    });
  }

  function showSegment(segment, i) {
    const item = segment.element = make("li");
    item.dataset.index = i;
    item.classList.toggle("begins", segment.begins);
    if (segment.speaker) {
      item.style.setProperty("--speaker", colour(segment.speaker));
      if (!i || segments[i - 1].speaker !== segment.speaker) item.append(make("h2", "who", segment.speaker));
    }
    const time = make("button", "time", clock(segment.start)), edit = make("button", "edit", "Edit");
    time.type = edit.type = "button";
    time.tabIndex = edit.tabIndex = i ? -1 : 0; // Tab reaches those of the current segment
    time.setAttribute("aria-label", `Play from ${clock(segment.start)}`);
    edit.setAttribute("aria-label", `Edit the sentence at ${clock(segment.start)}`);
    item.append(time, make("p", "text"), edit);
    showWords(segment);
    return item;
  }

  // What is said now: for each speaker the words by their start

  let voices = [];
  function indexWords() {
    const said = new Map();
    for (const { speaker, words } of segments) {
      if (!said.has(speaker)) said.set(speaker, []);
      said.get(speaker).push(...words);
    }
    voices = [...said.values()].map((words) => {
      words.sort((a, b) => a.start - b.start);
      return { words, starts: Float64Array.from(words, (word) => word.start), lit: null };
    });
  }

  /** Where the last of the ascending numbers is that is at most `value`; -1 before the first. */
  function lastUpTo(numbers, value) {
    let low = 0, high = numbers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (numbers[middle] <= value) low = middle + 1; else high = middle;
    }
    return low - 1;
  }

  const starts = Float64Array.from(segments, (segment) => segment.start);
  let here = null, second = -1, alone = 0;

  function update() {
    const now = audio.currentTime + 0.001; // browsers round a position that is set
    for (const voice of voices) {
      const word = voice.words[lastUpTo(voice.starts, now)];
      const lit = word && now < word.end + LINGER ? word : null;
      if (lit !== voice.lit) {
        voice.lit?.element.classList.remove("now");
        lit?.element.classList.add("now");
        voice.lit = lit;
      }
    }
    moveTo(segments[Math.max(0, lastUpTo(starts, now))]);
    wave.style.setProperty("--at", `${Math.min(100, 100 * audio.currentTime / length())}%`);
    if (Math.floor(now) !== second) {
      second = Math.floor(now);
      wave.setAttribute("aria-valuenow", second);
      wave.setAttribute("aria-valuetext", `${clock(now)} of ${clock(length())}`);
    }
    if (!audio.paused) requestAnimationFrame(update);
  }

  function moveTo(segment) {
    if (!segment || segment === here) return;
    for (const [one, current] of [[here, false], [segment, true]]) {
      one?.element.classList.toggle("here", current);
      one?.element.querySelectorAll("button").forEach((button) => { button.tabIndex = current ? 0 : -1; });
    }
    here = segment;
    if (!$("follow").checked || performance.now() < alone || list.querySelector("[contenteditable]")) return;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    segment.element.scrollIntoView({ block: "nearest", behavior: still ? "auto" : "smooth" });
  }

  // The sound

  const length = () => (Number.isFinite(audio.duration) && audio.duration) || about.seconds || 1;

  function seek(seconds) {
    audio.currentTime = Math.max(0, Math.min(seconds, length()));
    alone = 0;
    update();
  }

  function needSound(why) {
    $("why").textContent = why;
    $("chooser").hidden = false;
  }

  function play() {
    audio.play().catch(() => { if (!audio.src) tell("Choose the recording first."); });
  }

  audio.addEventListener("play", () => requestAnimationFrame(update));
  for (const event of ["pause", "seeked", "timeupdate", "loadedmetadata"]) {
    audio.addEventListener(event, () => { if (audio.paused) update(); });
  }
  audio.addEventListener("loadedmetadata", () => {
    $("chooser").hidden = true;
    wave.setAttribute("aria-valuemax", Math.floor(length()));
  });
  audio.addEventListener("error", () => {
    needSound(`${about.name} is not where it was, or this browser cannot play it.`);
  });
  $("file").addEventListener("change", ({ target }) => {
    if (target.files.length) audio.src = URL.createObjectURL(target.files[0]);
  });
  for (const event of ["wheel", "touchmove"]) {
    addEventListener(event, () => { alone = performance.now() + ALONE; }, { passive: true });
  }

  // The waveform

  function picture(width, height, kind) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("class", kind);
    svg.setAttribute("aria-hidden", "true");
    wave.append(svg);
    return (path) => {
      const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
      shape.setAttribute("d", path);
      svg.append(shape);
      return shape;
    };
  }

  function drawWave() {
    const count = about.peaks.length || 1, heights = about.peaks.map((peak) => Math.max(peak / 2, 0.5));
    const above = heights.map((height, i) => `L${i} ${50 - height}H${i + 1}`).join("");
    const below = heights.map((height, i) => `L${i + 1} ${50 + height}H${i}`).reverse().join("");
    for (const kind of ["all", "played"]) picture(count, 100, kind)(`M0 50${above}${below}Z`);
    if (speakers.length < 2) return;
    wave.classList.add("shared");
    const turns = picture(length(), 1, "turns");
    for (const speaker of speakers) {
      const own = segments.filter((segment) => segment.speaker === speaker);
      const path = own.map(({ start, end }) => `M${start} 0H${end}V1H${start}Z`).join("");
      turns(path).style.fill = colour(speaker);
    }
  }

  function seekOnWave(event) {
    const box = wave.getBoundingClientRect();
    seek(length() * (event.clientX - box.left) / box.width);
  }
  wave.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    wave.setPointerCapture(event.pointerId);
    seekOnWave(event);
  });
  wave.addEventListener("pointermove", (event) => {
    if (wave.hasPointerCapture(event.pointerId)) seekOnWave(event);
  });

  // Corrections

  const kept = keptEdits(about.id);
  let unsaved = false;

  function textOf(words) {
    return words.map((word) => word.text).join(" ");
  }

  function counted(edits) {
    return edits.length === 1 ? "1 edit" : `${edits.length} edits`;
  }

  /** Keeps what is edited in this browser, and says so. */
  function keepEdits() {
    const edits = [...segments.entries()].filter(([, segment]) => segment.edited);
    unsaved = !kept.write(Object.fromEntries(edits.map(([i, { words }]) => [i, words])));
    $("discard").hidden = !edits.length;
    const where = unsaved ? "this browser cannot keep them: download the transcript" : "kept in this browser";
    tell(edits.length ? `${counted(edits)}, ${where}.` : "");
  }

  function restoreEdits() {
    const edits = kept.read(segments.length);
    for (const [i, words] of edits) Object.assign(segments[i], { words, edited: true });
    $("discard").hidden = !edits.length;
    if (edits.length) tell(`Restored ${counted(edits)}.`);
  }

  function discardEdits() {
    const edits = segments.filter((segment) => segment.edited);
    if (!confirm("Discard all edits? They cannot be brought back.")) return;
    for (const segment of edits) {
      Object.assign(segment, { words: segment.original, edited: false });
      showWords(segment);
    }
    indexWords();
    update();
    keepEdits();
    tell("The transcript is as it was recognised.");
    list.focus();
  }

  function startEdit(segment) {
    const text = segment.element.querySelector(".text");
    if (text.isContentEditable) return;
    text.setAttribute("contenteditable", "plaintext-only");
    if (!text.isContentEditable) text.setAttribute("contenteditable", "true"); // older browsers
    text.setAttribute("role", "textbox");
    text.setAttribute("aria-label", `Sentence at ${clock(segment.start)}`);
    text.focus();
    tell("Correcting: Enter keeps the change, Esc drops it.");
    const keep = () => endEdit(segment, text, true);
    text.addEventListener("blur", keep, { once: true });
    text.onkeydown = (event) => {
      if (event.isComposing || (event.key !== "Enter" && event.key !== "Escape")) return;
      event.preventDefault();
      text.removeEventListener("blur", keep);
      endEdit(segment, text, event.key === "Enter");
    };
  }

  function endEdit(segment, text, keep) {
    const texts = text.textContent.split(/\s+/).filter(Boolean), now = texts.join(" ");
    const changed = keep && now !== textOf(segment.words);
    for (const name of ["contenteditable", "role", "aria-label"]) text.removeAttribute(name);
    text.onkeydown = null;
    if (changed) {
      segment.edited = now !== textOf(segment.original);
      segment.words = segment.edited ? retime(segment, texts) : segment.original;
    }
    showWords(segment);
    indexWords();
    update();
    if (changed) keepEdits(); else tell("");
    text.blur();
  }

  addEventListener("beforeunload", (event) => { if (unsaved) event.preventDefault(); });

  // Downloads, as slyther writes these formats

  function stamp(seconds, mark, hours) {
    const ms = Math.round(1000 * seconds), pad = (n, width) => String(n).padStart(width, "0");
    const whole = Math.floor(ms / 3600000);
    const head = hours || whole ? `${pad(whole, 2)}:` : "";
    const rest = `${pad(Math.floor(ms / 60000) % 60, 2)}:${pad(Math.floor(ms / 1000) % 60, 2)}`;
    return `${head}${rest}${mark}${pad(ms % 1000, 3)}`;
  }

  function written(format) {
    const rows = [];
    let parted = false; // also where the first segment of a paragraph was left out
    for (const { start, end, speaker, begins, words } of segments) {
      parted ||= begins && rows.length > 0;
      if (!words.length) continue;
      const text = (speaker ? `[${speaker}] ` : "") + textOf(words);
      rows.push({ start, end, text, parted });
      parted = false;
    }
    if (format === "txt") return rows.map(({ text, parted }) => `${parted ? "\n" : ""}${text}\n`).join("");
    const srt = format === "srt", mark = srt ? "," : ".";
    const cues = rows.map(({ start, end, text }, i) => {
      const times = `${stamp(start, mark, srt)} --> ${stamp(end, mark, srt)}`;
      const safe = text.replaceAll("-->", "->");
      if (srt) return `${i + 1}\n${times}\n${safe}\n\n`;
      return `${times}\n${safe.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}\n\n`;
    });
    return (srt ? "" : "WEBVTT\n\n") + cues.join("");
  }

  function download(format) {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([written(format)], { type: "text/plain;charset=utf-8" }));
    link.download = `${about.stem}.${format}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    unsaved = false;
    tell(`${link.download} is downloaded.`);
  }

  // Mouse and keys

  document.querySelector(".downloads").addEventListener("click", ({ target }) => {
    if (target.dataset.format) download(target.dataset.format);
  });
  $("discard").addEventListener("click", discardEdits);
  list.addEventListener("click", (event) => {
    const { target } = event, item = target.closest("li");
    if (!item || target.isContentEditable || !getSelection().isCollapsed) return;
    const segment = segments[item.dataset.index];
    if (target.matches(".edit")) startEdit(segment);
    if (target.matches(".word")) seek(segment.words[target.dataset.index].start);
    if (target.matches(".time")) {
      seek(segment.start);
      play();
      if (event.detail) target.blur(); // so that the next Space pauses
    }
  });
  list.addEventListener("dblclick", ({ target }) => {
    if (target.closest(".text")) startEdit(segments[target.closest("li").dataset.index]);
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
    if (event.target.closest("button, summary, audio, input, a, [contenteditable]")) {
      if (!["ArrowUp", "ArrowDown"].includes(event.key) || !event.target.matches("button")) return;
    }
    const at = here ? segments.indexOf(here) : 0;
    const jump = (i) => { if (segments[i]) seek(segments[i].start); };
    const actions = {
      " ": () => (audio.paused ? play() : audio.pause()),
      ArrowLeft: () => seek(audio.currentTime - STEP),
      ArrowRight: () => seek(audio.currentTime + STEP),
      ArrowUp: () => jump(at - 1),
      ArrowDown: () => jump(at + 1),
      e: () => here && startEdit(here),
    };
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  });

  restoreEdits();
  const all = document.createDocumentFragment();
  all.append(...segments.map(showSegment));
  list.append(all);
  for (const speaker of speakers) {
    const item = make("li", "", speaker);
    item.style.setProperty("--speaker", colour(speaker));
    $("speakers").append(item);
  }
  if (!segments.length) tell("Nothing was said in this recording.");
  indexWords();
  drawWave();
  if (about.sound || about.link) audio.src = about.sound || about.link;
  else needSound("The recording came on standard input, so there is no file to link to.");
  update();
})();
