// Keyboard, active time, and sending that survives a lost connection. Every page also works without this file.
"use strict";

(() => {
  const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
  const form = document.querySelector("form[data-send]");
  const banner = form?.querySelector(".banner");
  const outbox = `outbox:${meta("annotator")}`;
  const IDLE_MS = 30000;

  // --- storage that may be refused (private windows) -------------------------------------------------------------
  const store = {
    get(key) { try { return JSON.parse(localStorage.getItem(key)); } catch { return null; } },
    set(key, value) { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* kept in memory only */ } },
    drop(key) { try { localStorage.removeItem(key); } catch { /* nothing to drop */ } },
  };

  // --- active time: page visible, and something done within the last half minute -----------------------------------
  let active = 0, acted = performance.now(), ticked = performance.now(), kept = performance.now();
  for (const kind of ["pointerdown", "pointermove", "keydown", "scroll", "touchstart"]) {
    addEventListener(kind, () => { acted = performance.now(); }, { passive: true, capture: true });
  }
  const tick = () => {
    const now = performance.now();
    if (!document.hidden && now - acted < IDLE_MS) active += Math.min(now - ticked, 2000);
    ticked = now;
    return Math.round(active);
  };
  if (form) setInterval(tick, 1000);

  // --- drafts: what was chosen or typed comes back after a reload ---------------------------------------------------
  const draftKey = form && `draft:${meta("annotator")}:${form.dataset.assignment}`;
  const fields = () => [...form.elements].filter((e) => e.name && !["hidden", "submit"].includes(e.type));
  const saveDraft = () => {
    const values = fields().map((e) => [e.name, e.type === "radio" || e.type === "checkbox" ? [e.value, e.checked] : e.value]);
    store.set(draftKey, { values, active: tick() });
  };
  const loadDraft = () => {
    const draft = store.get(draftKey);
    if (!draft) return;
    active = draft.active || 0;
    for (const [name, value] of draft.values) {
      const found = fields().filter((e) => e.name === name);
      if (Array.isArray(value)) {
        const one = found.find((e) => e.value === value[0]);
        if (one) one.checked = value[1];
      } else if (found[0]) found[0].value = value;
    }
  };
  if (form) {
    loadDraft();
    form.addEventListener("input", saveDraft);
  }

  // --- sending: into the outbox first, out of it only when the server says that it is stored -------------------------
  let memory = store.get(outbox) ?? [];
  let waiting = 0, sending = false;
  const remember = () => (memory.length ? store.set(outbox, memory) : store.drop(outbox));
  const say = (text) => { if (banner) { banner.textContent = text; banner.hidden = !text; } };
  const busy = (on) => form?.querySelectorAll("button").forEach((b) => { b.disabled = on; });

  async function flush() {
    if (sending || !memory.length) return;
    sending = true;
    let next = null;
    try {
      while (memory.length) {
        const letter = memory[0];
        let response;
        try {
          response = await fetch(letter.url, {
            method: "POST",
            headers: { "Content-Type": "application/json", "X-CSRF-Token": meta("csrf") },
            body: JSON.stringify(letter.body),
          });
        } catch {
          response = null;
        }
        if (!response || response.status >= 500 || response.status === 429) {
          waiting = Math.min(waiting ? waiting * 2 : 1000, 30000);
          say(banner?.dataset.lost ?? "");
          setTimeout(flush, waiting);
          return;
        }
        if (response.status === 401 || response.redirected) {
          say(banner?.dataset.again ?? "");
          return;
        }
        waiting = 0;
        const said = await response.json().catch(() => ({}));
        memory.shift();
        remember();
        if (response.ok) {
          store.drop(letter.draft);
          next = said.next;
        } else {
          say(said.message ?? String(response.status));
          busy(false);
          next = null;
        }
      }
    } finally {
      sending = false;
    }
    if (next && next.startsWith("/") && !next.startsWith("//")) location.assign(next);
    else busy(false);
  }

  form?.addEventListener("submit", (event) => {
    event.preventDefault();
    const then = event.submitter?.name === "then" ? event.submitter.value : "next";
    const data = new FormData(form);
    const assignment = form.getAttribute("action").split("/")[2];
    const body = { id: data.get("id"), assignment, active_ms: tick() };
    if (form.dataset.send.endsWith("votes")) {
      body.choice = then === "skip" ? "skip" : data.get("choice");
      if (!body.choice) return;
      if (data.get("strength")) body.strength = Number(data.get("strength"));
      body.tags = data.getAll("tags");
      body.then = then;
    } else {
      body.answer = data.get("answer");
      body.text = data.get("text");
    }
    // Pressed again while the first try is under way: the same id, so it is stored once.
    if (!memory.some((letter) => letter.body.id === body.id)) memory.push({ url: form.dataset.send, body, draft: draftKey });
    remember();
    busy(true);
    say(banner?.dataset.sending ?? "");
    flush();
  });
  addEventListener("online", flush);
  if (meta("annotator") && memory.length) flush();

  // --- the item stays ours while we read it ---------------------------------------------------------------------------
  if (form) {
    setInterval(() => {
      const now = performance.now();
      if (now - kept > 240000 && now - acted < 240000) {
        kept = now;
        const assignment = form.getAttribute("action").split("/")[2];
        fetch(`/api/assignments/${assignment}/keep`, { method: "POST", headers: { "X-CSRF-Token": meta("csrf") } }).catch(() => {});
      }
    }, 15000);
  }

  // --- keyboard -----------------------------------------------------------------------------------------------------
  const toggle = document.getElementById("keys-on");
  let keysOn = store.get("keys") ?? true;
  if (toggle) {
    toggle.checked = keysOn;
    toggle.addEventListener("change", () => { keysOn = toggle.checked; store.set("keys", keysOn); });
  }
  const typing = (e) => e.matches("textarea, select, input:not([type=radio]):not([type=checkbox])");
  const keyOf = (event) => {
    // An input method for Japanese gives "Process" or a full-width letter; the key's place still says which it was.
    if (/^[0-9a-z?]$/i.test(event.key)) return event.key.toLowerCase();
    return /^(?:Digit|Numpad|Key)([0-9A-Z])$/.exec(event.code)?.[1].toLowerCase() ?? event.key;
  };
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("textarea")) {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.form?.requestSubmit();
      else if (event.key === "Escape") event.target.blur();
      else return;
      event.preventDefault();
      return;
    }
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = keyOf(event);
    if (key === "Enter" && form?.querySelector("[name=choice]") && !event.target.matches("a, button, summary")) {
      if (form.querySelector("[name=choice]:checked")) form.requestSubmit(form.querySelector("button.primary"));
      event.preventDefault();
      return;
    }
    if (key === "Enter" && event.target === document.body) {
      document.querySelector("main a.primary")?.click(); // where the browser did not give it the focus
      return;
    }
    if (!keysOn) return;
    if (key === "?") {
      const keys = document.getElementById("keys");
      if (keys) { keys.open = !keys.open; keys.querySelector("summary").focus(); }
      return;
    }
    const target = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!target || target.disabled) return;
    event.preventDefault();
    if (target.matches("input")) {
      if (!target.closest("fieldset").offsetParent) return;
      target.checked = target.type === "radio" ? true : !target.checked;
      target.dispatchEvent(new Event("input", { bubbles: true }));
    } else if (target.matches("button")) {
      if (target.value === "correct" && !form.querySelector("[name=choice]:checked")) { form.reportValidity(); return; }
      form.requestSubmit(target);
    } else if (target.matches('a[href^="#"]')) openReport();
    else target.click();
  });

  const openReport = () => {
    const report = document.getElementById("report");
    if (!report) return;
    report.open = true;
    report.querySelector("textarea").focus();
  };
  document.querySelector('a[href="#report"]')?.addEventListener("click", (event) => { event.preventDefault(); openReport(); });
})();
