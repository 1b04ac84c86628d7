// Makes pages follow what happens. Everything works without it, only not by itself.
"use strict";
(() => {
  const live = document.getElementById("live");
  const connection = document.getElementById("connection");

  // What the visitor opened, typed or chosen stays so. What a form carries unseen is not the visitor's.
  function belongsToVisitor(element, name) {
    if (name === "open") return element.nodeName === "DETAILS";
    if (name !== "value" && name !== "checked" && name !== "selected") return false;
    return element.matches("input:not([type=hidden]), select, option, textarea");
  }

  function sameKind(a, b) {
    return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
  }

  // Makes `old` like `fresh` with as few changes as needed, so that focus, selection and scroll positions stay.
  function morph(old, fresh) {
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== fresh.data) old.data = fresh.data;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !belongsToVisitor(old, name)) old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (!belongsToVisitor(old, name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
  }

  function morphChildren(old, fresh) {
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      let found = at;
      // Something with an id may have moved down: what is before it is gone.
      if (at && !sameKind(at, next) && next.id) {
        while (found && !sameKind(found, next)) found = found.nextSibling;
        while (found && at !== found) {
          const gone = at;
          at = at.nextSibling;
          gone.remove();
        }
      }
      if (at && sameKind(at, next)) {
        morph(at, next);
        at = at.nextSibling;
      } else {
        old.insertBefore(next, at);
      }
    }
    while (at) {
      const gone = at;
      at = at.nextSibling;
      gone.remove();
    }
  }

  function tell(text) {
    if (!connection) return;
    connection.hidden = !text;
    if (connection.textContent !== text) connection.textContent = text;
  }

  let source = null;
  let retry = 0;

  function follow() {
    if (!live || !document.body.hasAttribute("data-live") || source || document.hidden) return;
    source = new EventSource(location.pathname + location.search);
    source.onopen = () => { retry = 0; };
    source.onmessage = (event) => {
      const news = JSON.parse(event.data);
      if ("reload" in news) {
        location.reload();
        return;
      }
      tell(news.trouble ? "Not up to date: " + news.trouble : "");
      if (news.html === undefined) return;
      const fresh = document.createElement("template");
      fresh.innerHTML = news.html;
      morphChildren(live, fresh.content);
    };
    source.onerror = () => {
      source.close();
      source = null;
      retry = Math.min(retry + 1, 5);
      // Streams end now and then, and the next one begins at once.
      if (retry > 1) tell("Not up to date: swift-s3-control does not answer this page. Trying again.");
      setTimeout(follow, (retry * retry - 1) * 1000 + 200);
    };
  }

  // A page that nobody looks at needs no connection: browsers have few for each server.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && source) {
      source.close();
      source = null;
    } else {
      follow();
    }
  });
  follow();

  // Says while a document is typed what is wrong with it. The form works without.
  const editor = document.querySelector("form[data-validate]");
  const typed = editor && editor.querySelector("textarea:not([hidden])");
  const verdict = document.getElementById("verdict");
  if (typed && verdict) {
    let timer = 0;
    let running = null;

    // Places the cursor at the beginning of a line.
    function goTo(line) {
      const lines = typed.value.split("\n");
      const before = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
      typed.focus();
      typed.setSelectionRange(before, before + (lines[line - 1] || "").length);
      const height = parseFloat(getComputedStyle(typed).lineHeight) || 16;
      typed.scrollTop = Math.max(0, (line - 5) * height);
    }

    function show(found) {
      const parts = [];
      const say = document.createElement("p");
      if (found.problems.length) {
        say.className = "bad";
        say.textContent = found.problems.length + " to mend:";
      } else if (!found.changes.length) {
        say.textContent = "Nothing differs from what is in force.";
      } else {
        say.className = "good";
        say.textContent = "Right so far. " + found.changes.length + (found.changes.length === 1 ? " change." : " changes.");
      }
      parts.push(say);
      const list = document.createElement("ul");
      list.className = "problems";
      for (const spot of found.problems.concat(found.warnings)) {
        const item = document.createElement("li");
        if (spot.line > 0) {
          const go = document.createElement("button");
          go.type = "button";
          go.className = "link";
          go.textContent = "line " + spot.line;
          go.addEventListener("click", () => goTo(spot.line));
          item.append(go, ": ");
        }
        const path = document.createElement("code");
        path.textContent = spot.path;
        item.append(path, " " + spot.problem);
        list.append(item);
      }
      if (list.firstChild) parts.push(list);
      verdict.replaceChildren(...parts);
    }

    async function validate() {
      if (running) running.abort();
      running = new AbortController();
      try {
        const answer = await fetch(editor.dataset.validate, {
          method: "POST",
          body: new URLSearchParams(new FormData(editor)),
          signal: running.signal,
        });
        if (answer.ok) show(await answer.json());
        else verdict.textContent = "Cannot be checked now: " + answer.status + " " + answer.statusText;
      } catch (error) {
        if (error.name !== "AbortError") verdict.textContent = "Cannot be checked now: " + error.message;
      }
    }

    typed.addEventListener("input", () => {
      verdict.textContent = "Not checked yet.";
      clearTimeout(timer);
      timer = setTimeout(validate, 400);
    });

    // What was typed is not lost by a slip.
    let isLeaving = false;
    editor.addEventListener("submit", () => { isLeaving = true; });
    const first = typed.value;
    window.addEventListener("beforeunload", (event) => {
      if (!isLeaving && (editor.hasAttribute("data-changed") || typed.value !== first)) event.preventDefault();
    });
  }
})();
