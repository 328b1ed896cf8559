
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const STALE_MS = 5000, SESSIONS_MS = 2000;
  document.body.classList.add("scripts");

  // Who has a name of its own, at least among its siblings, is not taken for another.
  const key = (node) => node.id || node.dataset?.act;

  // Makes `have` like `want` and keeps every node that can stay: focus, selection and scroll survive a drawing.
  function morph(have, want) {
    if (have.nodeType === Node.TEXT_NODE) {
      if (have.data !== want.data) have.data = want.data;
      return;
    }
    for (const { name } of [...have.attributes]) {
      const kept = have.nodeName === "DETAILS" && name === "open";
      if (!kept && !want.hasAttribute(name)) have.removeAttribute(name);
    }
    for (const { name, value } of want.attributes) {
      const kept = have.nodeName === "DETAILS" && name === "open";
      if (!kept && have.getAttribute(name) !== value) have.setAttribute(name, value);
    }
    let at = have.firstChild;
    for (const child of [...want.childNodes]) {
      const same = key(child)
        ? [...have.children].find((known) => key(known) === key(child))
        : at && !key(at) && at.nodeName === child.nodeName ? at : null;
      if (!same) have.insertBefore(child, at);
      else {
        if (same === at) at = at.nextSibling;
        else have.insertBefore(same, at);
        morph(same, child);
      }
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  }

  function redraw(id, html) {
    const drawn = new DOMParser().parseFromString(html, "text/html").getElementById(id);
    if (drawn) morph(byId(id), drawn);
  }

  // The living part.
  let heard = Date.now(), source;
  function listen() {
    source = new EventSource("/api/v1/stream?as=page");
    source.addEventListener("page", (event) => {
      heard = Date.now();
      redraw("live", event.data);
      const { title, say } = byId("live").dataset;
      document.title = title;
      if (byId("say").textContent !== say) byId("say").textContent = say;
      hideDismissed();
      tell();
    });
    source.addEventListener("error", () => {
      // Refused, as when all places are taken: the browser does not try again by itself.
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, STALE_MS);
    });
  }
  function tell() {
    const silent = Date.now() - heard, stale = silent > STALE_MS, link = byId("link");
    link.className = stale ? "off" : "on";
    const text = stale ? `Not live: nothing heard for ${Math.round(silent / 1000)} s` : "live";
    if (link.textContent !== text) link.textContent = text;
    document.body.classList.toggle("stale", stale);
  }
  setInterval(tell, 1000);
  tell();
  listen();

  // The tables of sessions, drawn anew while they are looked at.
  const query = byId("q");
  let inView = false, asking = false;
  async function askSessions() {
    if (asking) return;
    asking = true;
    try {
      const answer = await fetch("/part/sessions?q=" + encodeURIComponent(query.value));
      if (answer.ok) redraw("session-list", await answer.text());
    } catch { /* the line at the top says that nothing is heard */ }
    asking = false;
  }
  new IntersectionObserver((entries) => {
    inView = entries.some((entry) => entry.isIntersecting);
  }).observe(byId("sessions"));
  setInterval(() => { if (inView && !document.hidden) askSessions(); }, SESSIONS_MS);
  query.addEventListener("input", askSessions);
  byId("search").addEventListener("submit", (event) => { event.preventDefault(); askSessions(); });

  // Advice that was read.
  function hideDismissed() {
    for (const button of document.querySelectorAll("[data-dismiss]")) {
      let read = false;
      try { read = localStorage.getItem("read-" + button.dataset.dismiss) === "yes"; } catch { /* shown again */ }
      button.closest("li").classList.toggle("hidden", read);
    }
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.dismiss) {
      try { localStorage.setItem("read-" + button.dataset.dismiss, "yes"); } catch { /* hidden until the next drawing */ }
      hideDismissed();
    } else if (button?.dataset.act) {
      const { cluster } = button.closest("[data-cluster]").dataset, { member } = button.closest("[data-member]").dataset;
      ask({ act: button.dataset.act, cluster, member });
    }
  });
  hideDismissed();

  // What an operator may do: asked once, then done.
  const ACTS = {
    ready: ["Set ready", "New sessions may be sent to it again.", "is ready"],
    drain: ["Drain", "It gets no new sessions; open ones finish, unless open_sessions.drained is cut.", "drains"],
    maint: ["Maintenance for", "It gets no new sessions, and no alarm is raised about it; open ones finish, unless open_sessions.drained is cut.", "is in maintenance"],
    close: ["Close all sessions of", "Every session on it is cut at once; clients have to connect again.", "has no session left"],
  };
  const dialog = byId("ask"), yes = byId("ask-yes");
  let wanted;
  function ask({ act, cluster, member }) {
    wanted = { act, cluster, member };
    const [verb, meaning] = ACTS[act];
    byId("ask-title").textContent = `${verb} ${member}?`;
    byId("ask-text").textContent = `${meaning} Cluster ${cluster}.`;
    byId("ask-error").textContent = "";
    yes.textContent = `${verb} ${member}`;
    yes.disabled = false;
    dialog.showModal();
  }
  byId("ask-no").addEventListener("click", () => dialog.close());
  yes.addEventListener("click", async () => {
    const { act, cluster, member } = wanted;
    const [path, body] = act === "close" ? ["close-sessions", {}] : ["state", { state: act }];
    yes.disabled = true;
    try {
      const answer = await fetch(
        `/api/v1/clusters/${encodeURIComponent(cluster)}/members/${encodeURIComponent(member)}/${path}`,
        { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) },
      );
      if (answer.ok) {
        dialog.close();
        byId("say").textContent = `${member} ${ACTS[act][2]}.`;
        return;
      }
      const told = await answer.json().catch(() => ({}));
      byId("ask-error").textContent = `Refused: ${told.error ?? answer.status}`;
    } catch (error) {
      byId("ask-error").textContent = `Not done: ${error.message}`;
    }
    yes.disabled = false;
  });

  (async () => {
    try {
      const answer = await fetch("/api/v1/whoami");
      if (!answer.ok) return;
      const { user, role } = await answer.json();
      document.body.classList.toggle("operator", role === "operator");
      byId("who").textContent = user ? `${user}, ${role}` : role;
      byId("who").hidden = false;
    } catch { /* a viewer then */ }
  })();
})();
