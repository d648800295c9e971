"use strict";
(() => {
  const { seconds } = JSON.parse(document.getElementById("data").textContent);
  const tracks = [...document.querySelectorAll(".track")];
  const players = tracks.map((track) => track.querySelector("audio"));
  let now = players.findIndex((player) => player);

  function show() {
    const player = players[now];
    if (!player) return;
    const at = Math.min(100, 100 * player.currentTime / (seconds || 1));
    document.body.style.setProperty("--at", `${at}%`);
    if (!player.paused) requestAnimationFrame(show);
  }

  /** Play track `i` from `at` seconds on; by default from where the one before it is. */
  function play(i, at = players[now].currentTime) {
    if (!players[i]) return;
    players[i].currentTime = at;
    players[i].play().catch(() => {});
  }

  players.forEach((player, i) => {
    if (!player) return;
    player.addEventListener("play", () => {
      players.forEach((other) => { if (other && other !== player) other.pause(); });
      tracks.forEach((track, j) => track.classList.toggle("now", i === j));
      now = i;
      requestAnimationFrame(show);
    });
    for (const event of ["seeked", "timeupdate"]) {
      player.addEventListener(event, () => { if (i === now) show(); });
    }
    player.addEventListener("error", () => {
      const text = "This file is not where it was, or this browser cannot play it.";
      player.replaceWith(Object.assign(document.createElement("p"), { className: "dim", textContent: text }));
      players[i] = null;
      if (i === now) now = Math.max(0, players.findIndex((other) => other));
    });
  });

  document.addEventListener("click", ({ target, clientX }) => {
    const picture = target.closest(".plot, .lane"), button = target.closest("[data-at]");
    if (button) play(now, Number(button.dataset.at));
    if (!picture) return;
    const box = picture.getBoundingClientRect(), track = tracks.indexOf(picture.closest(".track"));
    play(track < 0 ? now : track, seconds * (clientX - box.left) / box.width);
  });

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("button, audio")) return;
    if (/^[0-9]$/.test(event.key)) play(Number(event.key));
    if (event.key !== " " || !players[now]) return;
    event.preventDefault();
    if (players[now].paused) play(now); else players[now].pause();
  });
})();
