// Brings an open page up to date: fetches the same page again and swaps the parts marked with data-live. What a person
// types, has opened or points at with the keyboard is left alone. Without this script every page works, by hand.
"use strict";
(() => {
  const every = Number(document.body.dataset.refreshMs);
  const freshness = document.getElementById("freshness");
  const parts = () => document.querySelectorAll("[data-live]");
  let busy = false;
  let lastOk = new Date();

  if (parts().length === 0 || !(every > 0)) return;

  // The page's own address, without what is asked or told only once.
  function address() {
    const url = new URL(location.href);
    url.searchParams.delete("audit");
    url.searchParams.delete("done");
    url.hash = "";
    return url;
  }

  function inUse(part) {
    const active = document.activeElement;
    if (part.contains(active) && active.matches("input, select, textarea, button")) return true;
    const selection = getSelection();
    return !selection.isCollapsed && part.contains(selection.anchorNode);
  }

  function swap(part, fresh) {
    const active = part.contains(document.activeElement) ? document.activeElement : null;
    const focused = active && (active.getAttribute("href") || active.tagName);
    const open = [...part.querySelectorAll("details[open]")].map((details) => details.id);
    part.replaceChildren(...[...fresh.childNodes].map((node) => document.importNode(node, true)));
    for (const id of open) {
      const details = id && part.querySelector("#" + CSS.escape(id));
      if (details) details.open = true;
    }
    if (focused) {
      const again = [...part.querySelectorAll("a, summary")]
        .find((element) => (element.getAttribute("href") || element.tagName) === focused);
      if (again) again.focus({ preventScroll: true });
    }
  }

  function comparable(part) {
    const copy = part.cloneNode(true);
    for (const details of copy.querySelectorAll("details")) details.removeAttribute("open");
    return copy.innerHTML;
  }

  async function refresh() {
    if (busy || document.hidden) return;
    busy = true;
    try {
      const answer = await fetch(address(), { headers: { Accept: "text/html" }, cache: "no-store" });
      if (!answer.ok) throw new Error("status " + answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const part of parts()) {
        const fresh = page.getElementById(part.id);
        if (fresh && !inUse(part) && comparable(part) !== comparable(fresh)) swap(part, fresh);
      }
      lastOk = new Date();
      freshness.textContent = "Live. As of " + lastOk.toISOString().slice(0, 19).replace("T", " ") + " UTC.";
      document.body.classList.remove("stale");
    } catch (error) {
      freshness.textContent = "No answer since " + lastOk.toISOString().slice(11, 19) + " UTC: what you see is old.";
      document.body.classList.add("stale");
    } finally {
      busy = false;
    }
  }

  setInterval(refresh, every);
  document.addEventListener("visibilitychange", refresh);
})();
