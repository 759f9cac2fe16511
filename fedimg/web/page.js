// Replaces the parts of a page that have changed. The page works without: it then loads itself anew.
"use strict";

(() => {
  const path = document.body.dataset.events;
  const state = document.getElementById("link-state");
  const say = (text, kind) => {
    state.textContent = text;
    state.className = "link-state " + kind;
  };

  const replace = ({ id, html }) => {
    const old = document.getElementById(id);
    const parsed = new DOMParser().parseFromString(html, "text/html");
    const fresh = parsed.getElementById(id);
    if (!old || !fresh || old.isEqualNode(fresh)) return;
    const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
    for (const one of fresh.querySelectorAll("details")) one.open = open.has(one.id);
    // who is about to press a button keeps it under the finger
    const held = old.contains(document.activeElement) ? document.activeElement.closest("form") : null;
    const action = held && held.getAttribute("action");
    old.replaceWith(document.adoptNode(fresh));
    if (action) {
      const again = [...fresh.querySelectorAll("form")].find((one) => one.getAttribute("action") === action);
      const button = again && again.querySelector("button");
      if (button) button.focus({ preventScroll: true });
    }
  };

  const follow = () => {
    const source = new EventSource(path);
    source.onopen = () => say("live", "live");
    source.addEventListener("part", (event) => replace(JSON.parse(event.data)));
    source.addEventListener("end", () => {
      source.close();
      say("ended", "lost");
      setTimeout(follow, 5000);
    });
    source.onerror = () => {
      const over = source.readyState === EventSource.CLOSED;
      say(over ? "not live: load the page again" : "no connection", "lost");
      if (over) setTimeout(follow, 30000);
    };
  };
  follow();
})();
