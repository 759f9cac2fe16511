// Replaces the parts of a page that have changed. The page works without: it then loads itself anew.
"use strict";

(() => {
  const path = document.body.dataset.events;
  const state = document.getElementById("link-state");
  const say = (text, kind) => {
    state.textContent = text;
    state.className = "link-state " + kind;
  };

  // the element of the new part that was in the user's hands in the old one, with what was chosen there
  const again = (held, fresh) => {
    if (held.matches("a")) {
      return [...fresh.querySelectorAll("a")].find((one) => one.getAttribute("href") === held.getAttribute("href"));
    }
    const form = held.closest("form");
    const action = form && form.getAttribute("action");
    const same = [...fresh.querySelectorAll("form")].find((one) => one.getAttribute("action") === action);
    if (!form || !same) return null;
    for (const one of form.querySelectorAll("select")) {
      const chosen = same.elements.namedItem(one.name);
      if (chosen) chosen.value = one.value;
    }
    return (held.name && same.elements.namedItem(held.name)) || same.querySelector("button");
  };

  const replace = ({ id, html }) => {
    const old = document.getElementById(id);
    const parsed = new DOMParser().parseFromString(html, "text/html");
    const fresh = parsed.getElementById(id);
    if (!old || !fresh || old.isEqualNode(fresh)) return;
    const open = new Set([...old.querySelectorAll("details[open]")].map((one) => one.id));
    for (const one of fresh.querySelectorAll("details")) one.open = open.has(one.id);
    const held = old.contains(document.activeElement) ? document.activeElement : null;
    old.replaceWith(document.adoptNode(fresh));
    const kept = held && again(held, fresh);
    if (kept) kept.focus({ preventScroll: true });
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
