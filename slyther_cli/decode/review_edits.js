"use strict";

/** The words of edited segments in this browser's storage, for the transcript `id`. */
function keptEdits(id) {
  const key = `slyther ${id}`;
  const isWord = (word) => (
    typeof word?.text === "string" && Number.isFinite(word.start) && Number.isFinite(word.end)
  );
  const areWords = (words) => Array.isArray(words) && words.every(isWord);
  return {
    /** [number of the segment, its words] of each, in a transcript of `count` segments. */
    read(count) {
      try {
        const found = Object.entries(JSON.parse(localStorage.getItem(key)) || {});
        return found.filter(([i, words]) => /^\d+$/.test(i) && i < count && areWords(words));
      } catch { // no storage, or something else in it
        return [];
      }
    },
    /** Whether they could be kept. */
    write(edits) {
      try {
        const rows = Object.entries(edits).map(([i, words]) => (
          [i, words.map(({ text, start, end, sure }) => ({ text, start, end, sure }))]
        ));
        if (rows.length) localStorage.setItem(key, JSON.stringify(Object.fromEntries(rows)));
        else localStorage.removeItem(key);
        return true;
      } catch {
        return false;
      }
    },
  };
}

/** Words for `texts`: those that are as before at both ends keep their times, others share what is left. */
function retime(segment, texts) {
  const old = segment.words, most = Math.min(old.length, texts.length);
  let head = 0, tail = 0;
  while (head < most && old[head].text === texts[head]) head++;
  while (tail < most - head && old[old.length - 1 - tail].text === texts[texts.length - 1 - tail]) tail++;
  const kept = old.length - tail, changed = texts.slice(head, texts.length - tail);
  const replaced = kept > head;
  const from = replaced ? old[head].start : head ? old[head - 1].end : segment.start;
  const to = replaced ? old[kept - 1].end : tail ? old[kept].start : segment.end;
  const step = Math.max(0, to - from) / changed.length;
  const fresh = changed.map((text, i) => (
    { text, start: from + i * step, end: from + (i + 1) * step, sure: null }
  ));
  return [...old.slice(0, head), ...fresh, ...old.slice(kept)];
}

