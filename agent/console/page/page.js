// The page of a running agent. It asks for a snapshot every two seconds and draws it; what
// the agent says goes in as text only. When no answer comes, what stands there is marked as
// old: a picture of a lane that nobody looks at any more must not look like the lane.
"use strict";

const pollEvery = 2000;      // ms between snapshots
const patience = 5000;       // ms for one answer
const oldAfter = 7000;       // ms without an answer until all of it is old
const logEvery = 4000;       // ms between looks at the log
const retryEvery = 5000;     // ms until the events are asked for again
const keptEvents = 200, keptLog = 300;
const svgSpace = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);

// ---- drawing ----

// h describes an element. A key tells those of a list apart.
function h(tag, attrs, ...children) {
  return {tag, attrs: attrs || {}, children: children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== "")};
}

// put brings the children of an element to what is described, and leaves alone what is as it
// should be: what is open, scrolled or focused stays so.
function put(parent, list) {
  list = list.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false && c !== "");
  const wanted = new Set(list.map((w) => w.attrs && w.attrs.key).filter((k) => k !== undefined));
  const kept = new Map();
  for (const node of [...parent.childNodes]) {
    if (node.key === undefined) continue;
    if (wanted.has(node.key)) kept.set(node.key, node); else node.remove();
  }
  let at = parent.firstChild;
  for (const want of list) {
    const text = typeof want !== "object";
    const key = text ? undefined : want.attrs.key;
    let node = key === undefined ? at : kept.get(key);
    const fits = node && node.key === key && (text ? node.nodeType === 3 : node.localName === want.tag);
    if (!fits) {
      node = text ? document.createTextNode("")
        : want.tag === "svg" || parent.namespaceURI === svgSpace ? document.createElementNS(svgSpace, want.tag) : document.createElement(want.tag);
      node.key = key;
    }
    if (node === at) at = at.nextSibling; else parent.insertBefore(node, at);
    if (text) {
      if (node.data !== String(want)) node.data = String(want);
      continue;
    }
    for (const [name, value] of Object.entries(want.attrs)) {
      if (name === "key") continue;
      if (value === false || value === null || value === undefined) node.removeAttribute(name);
      else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
    }
    put(node, want.children);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const say = (id, text) => { const e = byId(id); if (e.textContent !== text) e.textContent = text; };

// ---- words ----

const number = (n) => n.toLocaleString("en-GB");
const plain = (word) => String(word).replaceAll("_", " ");
const plural = (n, one, many) => number(n) + " " + (n === 1 ? one : many);
const kindOf = (type) => type.replace(/^lanepost\./, "").replace(/\.v\d+$/, "");

function span(s) {
  s = Math.max(0, s);
  if (s < 1) return "less than 1 s";
  if (s < 120) return Math.floor(s) + " s";
  if (s < 7200) return Math.floor(s / 60) + " min";
  if (s < 172800) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " days";
}

function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (n < 1024) return (unit === "B" ? n : n.toFixed(1)) + " " + unit;
    n /= 1024;
  }
  return n.toFixed(1) + " TiB";
}

const two = (n) => String(n).padStart(2, "0");
const dayOf = (d) => d.getFullYear() + "-" + two(d.getMonth() + 1) + "-" + two(d.getDate());

// clock is a time of day here, with the day if it is not today.
function clock(at) {
  const d = new Date(at);
  const time = two(d.getHours()) + ":" + two(d.getMinutes()) + ":" + two(d.getSeconds());
  return dayOf(d) === dayOf(new Date(now())) ? time : dayOf(d) + " " + time;
}

const when = (at) => h("time", {datetime: at}, clock(at));
const age = (at) => span((now() - Date.parse(at)) / 1000);
const since = (at) => [when(at), " (", age(at), " ago)"];
const facts = (...list) => h("dl", {}, list.filter((f) => f).map(([name, ...value]) => [h("dt", {}, name), h("dd", {}, value)]));
const toDo = (text) => text && h("p", {class: "do"}, h("b", {}, "To do: "), text);
const word = (tone, text) => h("span", {class: "word " + tone}, text);

const states = {
  online: ["good", "✓ ONLINE"], connecting: ["wait", "… CONNECTING"], silent: ["warn", "! SILENT"],
  offline: ["bad", "✕ OFFLINE"], fault: ["bad", "✕ FAULT"],
};

// stateOf is the colour and the word of a state.
const stateOf = (state) => states[state] || ["bad", "? " + plain(state).toUpperCase()];

// card is a box with a name and a state; edge is its colour if that is not the state's. Of an
// agent that does not answer a state is the word that was true once.
function card(key, name, [tone, text, edge], ...body) {
  if (text && isLost()) {
    [tone, text, edge] = ["wait", "? WAS " + text.slice(2)];
  }
  return h("article", {key, class: "card " + (edge || tone)},
    h("div", {class: "top"}, h("h3", {}, name), text && h("span", {class: "state " + tone}, text)), body);
}

// ---- the snapshot ----

let status = null;       // the last snapshot
let cameAt = 0;          // when it came, by performance.now()
let cameWall = null;     // and by this browser's clock
let failed = "";         // why the last question had no answer
let asking = false;

const isLost = () => status ? failed !== "" || performance.now() - cameAt > oldAfter : failed !== "";

// now is the agent's clock. It stands still while the agent does not answer: nothing is known
// of how old things are then.
const now = () => status ? Date.parse(status.at) + (isLost() ? 0 : performance.now() - cameAt) : Date.now();

async function ask(path, options) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), patience);
  try {
    const answer = await fetch(path, {cache: "no-store", signal: stop.signal, ...options});
    if (answer.status === 401) {
      location.href = "/login";
      throw new Error("log in first");
    }
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.error || "the agent answers " + answer.status);
    return said;
  } catch (e) {
    throw e.name === "AbortError" ? new Error("no answer within " + patience / 1000 + " s") : e;
  } finally {
    clearTimeout(timer);
  }
}

async function poll() {
  if (asking) return;
  asking = true;
  try {
    const next = await ask("/api/v1/status");
    if (status && status.started !== next.started) restarted();
    status = next;
    cameAt = performance.now();
    cameWall = Date.now();
    failed = "";
    askSimulator();
  } catch (e) {
    failed = e.message || "no answer";
  } finally {
    asking = false;
  }
  draw();
}

// draw shows what is known. What can't be shown must not look like what is.
function draw() {
  try {
    drawAll();
  } catch (e) {
    document.body.classList.add("lost");
    byId("lost").hidden = false;
    say("lost", "THIS PAGE CAN'T SHOW what the agent says: reload it. If that does not help, use `lanepost check` on the box. (" + e.message + ")");
  }
}

function drawAll() {
  const lost = isLost();
  document.body.classList.toggle("lost", lost);
  byId("lost").hidden = !lost;
  if (lost) {
    say("lost", status
      ? "NO CONNECTION to the agent since " + clock(cameWall) + ". What stands below is as old as that, and may be wrong now. " +
        "Is the network there, and does the agent run? It is tried again."
      : "NO CONNECTION to the agent. Is the network there, and does the agent run? It is tried again.");
  }
  byId("reload").disabled = lost;
  if (!status) {
    if (lost) say("headline", "Nothing is known");
    return;
  }
  document.title = (lost ? "? " : status.problems.length ? "(" + status.problems.length + ") " : "") + status.site + " - lanepost";
  say("site", status.site);
  say("agent", "lanepost " + status.version + ", " + status.agent + ", as of " + clock(status.at));
  byId("logout").hidden = location.protocol !== "https:";
  byId("simulated").hidden = byId("simulator").hidden = !status.simulated;
  drawProblems(lost);
  put(byId("lanes"), status.lanes.length ? status.lanes.map(lane)
    : [h("h2", {}, "Lanes"), h("p", {}, "No lane is configured. `lanepost init` writes a first configuration.")]);
  put(byId("uplink-cards"), status.uplinks.length ? status.uplinks.map(uplink)
    : [h("p", {}, "No uplink is configured: events are kept on this box and go nowhere.")]);
  put(byId("box-cards"), [disk(status.spool), clockCard(status.clock), program(status)]);
  put(byId("config-facts"), config(status));
  choices(byId("log-device"), status.lanes.flatMap((l) => l.devices.map((d) => d.device)));
  say("zone", "Times are of the agent's clock, in this browser's time zone (" + Intl.DateTimeFormat().resolvedOptions().timeZone + ").");
}

function drawProblems(lost) {
  const n = status.problems.length;
  const line = byId("headline");
  line.className = "headline " + (lost ? "" : n ? "bad" : "good");
  say("headline", lost ? "Not known now; before: " + (n ? plural(n, "thing wrong", "things wrong") : "nothing wrong")
    : n === 0 ? "✓ Nothing is known to be wrong" : n === 1 ? "✕ One thing is wrong" : "✕ " + n + " things are wrong, the worst first");
  put(byId("problem-list"), status.problems.map((p) => h("li", {},
    p.device && !p.what.includes(p.device) && [h("b", {}, p.device + ": ")], h("b", {}, p.what), toDo(p.to_do))));
}

// choices adds to a list to choose from what is not in it yet.
function choices(select, list) {
  const there = new Set([...select.options].map((o) => o.value));
  for (const value of list) if (!there.has(value)) select.add(new Option(value, value));
}

const lane = (l) => h("section", {key: l.id, "aria-label": "Lane " + l.id},
  h("h2", {}, "Lane " + l.id, l.name && " - " + l.name),
  l.devices.length ? h("div", {class: "cards"}, l.devices.map(device)) : h("p", {}, "No device is configured in this lane."));

function device(d) {
  const trouble = d.state !== "online";
  const [tone, text] = stateOf(d.state);
  return card(d.device, d.id, [tone, text, tone === "good" && d.reason && "warn"],
    d.reason && h("p", {class: "why"}, d.reason), toDo(d.to_do),
    facts(
      [trouble ? "Not online since" : "Since", since(d.since)],
      ["Last record", d.last_record ? [age(d.last_record), " ago; silent after ", span(d.silence_limit_s)] : word("warn", "none since the agent's start")],
      d.last_event && ["Last event", when(d.last_event.at), " ", d.last_event.text],
      ["Records", number(d.records), d.unparsed > 0 && [", ", word("warn", number(d.unparsed) + " not understood")],
        d.reconnects > 0 && ", connected again " + plural(d.reconnects, "time", "times")],
      passed(d),
      d.clock_offset_s !== undefined && ["Its clock", offset(d.clock_offset_s)],
      ["Profile", d.profile], ["Reached at", d.connect]),
    d.occupancies.length > 0 && occupancies(d),
    d.plates.length > 0 && plates(d),
    d.scan && scan(d));
}

function offset(s) {
  if (Math.abs(s) < 2) return "right within 2 s";
  return word(Math.abs(s) > 60 ? "bad" : "warn", span(Math.abs(s)) + (s > 0 ? " ahead of the agent's" : " behind the agent's"));
}

function passed(d) {
  const p = d.passed, list = [];
  if (p.occupancies) {
    list.push(plural(p.occupancies, "occupancy", "occupancies"),
      ", ", p.alarm_occupancies ? word("bad", plural(p.alarm_occupancies, "with an alarm", "with an alarm") + " (gamma " + p.gamma_alarms + ", neutron " + p.neutron_alarms + ")") : "none with an alarm",
      p.incomplete_occupancies > 0 && [", ", word("warn", number(p.incomplete_occupancies) + " incomplete")]);
  }
  if (p.plate_reads || p.no_reads) list.push(plural(p.plate_reads, "plate", "plates"), ", ", number(p.no_reads), " without a plate read");
  if (p.scans) list.push(plural(p.scans, "scan", "scans"));
  return list.length ? ["Passed", list] : null;
}

// outcome is what came of an occupancy. None of its words is "clear".
function outcome(o) {
  const kinds = [o.gamma_alarm && "gamma", o.neutron_alarm && "neutron"].filter(Boolean).join(" and ");
  if (o.outcome === "alarm") return word("bad", "ALARM" + (kinds && " " + kinds));
  if (o.outcome === "incomplete") return word("warn", "INCOMPLETE");
  return word("", plain(o.outcome));
}

const known = (kind, value) => kind === "data" ? value : plain(kind);
const figure = (v, digits) => v === null || v === undefined ? "unknown" : digits === undefined ? number(v) : v.toFixed(digits);

function occupancies(d) {
  const last = d.occupancies[d.occupancies.length - 1];
  return [
    h("p", {}, h("b", {}, "Last occupancy "), when(last.start), ": ", outcome(last),
      ", gamma ", known(last.gamma, last.gamma_max_counts === null ? "without a count" : [figure(last.gamma_max_counts), " counts over ", figure(last.gamma_background_cps), ", ", figure(last.gamma_sigma, 1), " sigma"]),
      ", neutron ", known(last.neutron, plural(last.neutron_counts, "count", "counts"))),
    h("figure", {}, plot(d.occupancies),
      h("figcaption", {}, "Bars: highest gamma count in a second, line: background. Dots: sigma. G, N and red: gamma, neutron alarm. Dashed: incomplete. ?: no gamma count is known.")),
    h("details", {key: "figures"}, h("summary", {}, "The last " + plural(d.occupancies.length, "occupancy", "occupancies") + " in figures"),
      h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": "Occupancies of " + d.device}, h("table", {},
        h("thead", {}, h("tr", {}, ["Start", "Outcome", "Gamma", "Backgr.", "Sigma", "Neutron", "s", "km/h"].map((t) => h("th", {scope: "col"}, t)))),
        h("tbody", {}, [...d.occupancies].reverse().map((o) => h("tr", {key: o.id},
          [when(o.start), outcome(o), known(o.gamma, figure(o.gamma_max_counts)), figure(o.gamma_background_cps), figure(o.gamma_sigma, 1),
            known(o.neutron, number(o.neutron_counts)), o.duration_s.toFixed(1), figure(o.speed_kph, 1)].map((v) => h("td", {}, v)))))))),
  ];
}

// plot draws counts and sigma of occupancies, the oldest at the left.
function plot(list) {
  const slot = 300 / 20, left = 10, base = 84, tall = 56, foot = 142, short = 38;
  const counted = list.some((o) => o.gamma_max_counts !== null || o.gamma_background_cps !== null);
  const top = Math.max(1, ...list.map((o) => Math.max(o.gamma_max_counts || 0, o.gamma_background_cps || 0)));
  const most = Math.max(1, ...list.map((o) => o.gamma_sigma || 0));
  const parts = [
    h("line", {class: "axis", x1: 4, x2: 316, y1: base, y2: base}), h("line", {class: "axis", x1: 4, x2: 316, y1: foot, y2: foot}),
    h("text", {x: 4, y: 11}, counted ? "counts, top " + number(top) : "counts are not known"),
    h("text", {x: 4, y: 99}, list.some((o) => o.gamma_sigma !== null) ? "sigma, top " + most.toFixed(1) : "sigma is not known"),
    h("text", {x: 4, y: 155}, clock(list[0].start)),
    list.length > 1 && h("text", {x: 316, y: 155, class: "end"}, clock(list[list.length - 1].start)),
  ];
  list.forEach((o, i) => {
    const x = left + (20 - list.length + i) * slot, middle = x + slot / 2 - 1;
    const is = o.outcome === "alarm" ? " alarm" : o.outcome === "incomplete" ? " incomplete" : "";
    const marks = (o.gamma_alarm ? "G" : "") + (o.neutron_alarm ? "N" : "") || (o.outcome === "alarm" ? "!" : "");
    let y = base - 2;
    if (o.gamma_max_counts === null) {
      parts.push(h("text", {class: "unknown", x: middle, y: base - 3}, "?"));
      y -= 14;
    } else {
      const height = Math.max(1, o.gamma_max_counts / top * tall);
      y = base - height - 3;
      parts.push(h("rect", {class: "bar" + is, x: x + 1, y: base - height, width: slot - 4, height}));
    }
    if (o.gamma_background_cps !== null) {
      const at = base - o.gamma_background_cps / top * tall;
      parts.push(h("line", {class: "background", x1: x - 1, x2: x + slot - 1, y1: at, y2: at}));
      y = Math.min(y, at - 3);
    }
    if (marks) parts.push(h("text", {class: "mark", x: middle, y}, marks));
    if (o.gamma_sigma !== null) {
      const at = foot - Math.max(0, o.gamma_sigma) / most * short;
      parts.push(h("line", {class: "stem" + is, x1: middle, x2: middle, y1: foot, y2: at}), h("circle", {class: "dot" + is, cx: middle, cy: at, r: 3}));
    }
  });
  const alarms = list.filter((o) => o.outcome === "alarm").length;
  return h("svg", {class: "plot", viewBox: "0 0 320 160", role: "img",
    "aria-label": "The last " + plural(list.length, "occupancy", "occupancies") + ", " + alarms + " with an alarm; highest count " + (counted ? number(top) : "unknown")}, parts);
}

function plates(d) {
  const rows = [...d.plates].reverse().map((p) => h("tr", {key: p.id},
    h("td", {}, when(p.at)),
    h("td", {}, !p.read ? word("warn", "no plate read") : p.text ? h("span", {class: "plate"}, p.text) : "read, not shown"),
    h("td", {}, p.country), h("td", {}, p.confidence !== null && Math.round(p.confidence * 100) + " %"), h("td", {}, p.direction !== "unknown" && plain(p.direction))));
  const table = (name, list) => h("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": name + " of " + d.device}, h("table", {},
    h("thead", {}, h("tr", {}, ["Time", "Plate", "From", "Sure", "Going"].map((t) => h("th", {scope: "col"}, t)))), h("tbody", {}, list)));
  return [table("Last plates", rows.slice(0, 5)),
    rows.length > 5 && h("details", {key: "plates"}, h("summary", {}, plural(rows.length - 5, "earlier one", "earlier ones")), table("Earlier plates", rows.slice(5)))];
}

function scan(d) {
  const s = d.scan;
  return [
    facts(["Last scan", when(s.at), " ", s.id],
      ["Decision", word(s.decision === "suspicious" ? "bad" : "", plain(s.decision)), s.mode && ", " + plain(s.mode)],
      ["Files", word(s.completeness === "complete" ? "" : "warn", plain(s.completeness)), s.revision > 1 && ", revision " + s.revision]),
    s.thumbnail && h("img", {key: "scan", class: "scan", alt: "X-ray picture of scan " + s.id,
      src: "/api/v1/thumbnail?device=" + encodeURIComponent(d.device) + "&scan=" + encodeURIComponent(s.id + "." + s.revision)}),
  ];
}

function uplink(u) {
  const waiting = u.waiting_urgent + u.waiting_routine;
  return card(u.name, u.name, stateOf(u.state),
    u.last_error && !u.connected && h("p", {class: "why"}, u.last_error), !u.connected && toDo(u.to_do),
    u.last_error_at && !u.connected && h("p", {}, "Tried last " + age(u.last_error_at) + " ago, tried again " + (u.state === "connecting" ? "now." : "within a minute.")),
    facts(
      [u.connected ? "Connected since" : "Not since", since(u.since)], ["Broker", u.broker],
      ["Waiting", number(waiting), waiting > 0 && [" (", u.waiting_urgent ? word("warn", number(u.waiting_urgent) + " urgent") : "none urgent", ")"]],
      ["Oldest waits", u.oldest_waiting_s === undefined ? "none waits" : span(u.oldest_waiting_s)],
      ["Rate", u.events_per_s.toFixed(u.events_per_s < 10 ? 1 : 0) + " events/s"],
      ["Last delivered", u.last_confirmed ? since(u.last_confirmed) : "none since the agent's start"],
      u.quarantined > 0 && ["Taken out", word("bad", number(u.quarantined) + " that the broker never took")],
      u.reconnects > 0 && ["Connected again", plural(u.reconnects, "time", "times")],
      u.last_error && u.connected && ["Last error", u.last_error_at && [when(u.last_error_at), " "], u.last_error],
      u.certificates.map((c) => certificate(c)).length > 0 && ["Certificates", u.certificates.map((c) => h("div", {}, certificate(c)))]),
    status.spool.old_since && h("p", {class: "why"}, "The disk does not answer: what waits is as of ", clock(status.spool.old_since), "."));
}

function certificate(c) {
  const days = c.expires_in_s / 86400;
  return [plain(c.role), " ", days < 0 ? word("bad", "EXPIRED " + dayOf(new Date(c.expires)))
    : word(days < 30 ? "warn" : "", "until " + dayOf(new Date(c.expires)) + (days < 60 ? " (" + span(c.expires_in_s) + ")" : "")), " ", c.subject];
}

function room(name, used, most) {
  return [name, bytes(used) + " of " + bytes(most), h("progress", {max: most, value: used, "aria-label": name})];
}

function disk(s) {
  const free = s.disk_free_bytes, size = s.disk_total_bytes;
  const waiting = s.urgent.waiting + s.routine.waiting;
  const oldest = [s.urgent.oldest_waiting, s.routine.oldest_waiting].filter(Boolean).sort()[0];
  const state = s.old_since ? ["bad", "✕ NO ANSWER"] : s.refused ? ["bad", "✕ REFUSES"] : s.lost_events > 0 ? ["bad", "✕ EVENTS LOST"]
    : free === 0 ? ["bad", "✕ FULL"] : s.pressure ? ["warn", "! NEARLY FULL"] : ["good", "✓ TAKES EVENTS"];
  return card("disk", "Disk", state,
    s.old_since && h("p", {class: "why"}, "The disk has not answered since ", clock(s.old_since), "; these figures are as old as that."),
    s.refused && h("p", {class: "why"}, s.refused, s.waiting_for_disk > 0 && "; " + plural(s.waiting_for_disk, "event waits", "events wait") + " for it"),
    facts(
      free !== undefined && size !== undefined && ["Free", bytes(free) + " of " + bytes(size), h("progress", {max: size, value: size - free, "aria-label": "Disk in use"})],
      room("Urgent", s.urgent.bytes, s.urgent.max_bytes), room("Routine", s.routine.bytes, s.routine.max_bytes), room("Pictures", s.attachments_bytes, s.attachments_max_bytes),
      ["Undelivered", plural(waiting, "event", "events"), oldest && ["; the oldest for ", age(oldest)]],
      ["Lost", s.lost_events ? word("bad", plural(s.lost_events, "event", "events") + " since the start") : "none since the start"],
      ["Kept in", s.dir]));
}

function clockCard(c) {
  const state = {yes: ["good", "✓ SYNCHRONISED"], no: ["bad", "✕ NOT SYNCHRONISED"]}[c.synchronised] || ["wait", "? UNKNOWN"];
  const apart = (cameWall - Date.parse(status.at)) / 1000;
  return card("clock", "Clock", state,
    c.synchronised === "unknown" && h("p", {}, "This system does not say whether its clock is right."),
    facts(
      ["Agent's clock", new Date(now()).toISOString().slice(0, 19).replace("T", " ") + " UTC"],
      c.max_error_ms !== undefined && ["Error at most", number(c.max_error_ms) + " ms"],
      ["This browser", Math.abs(apart) < 5 ? "has the same time"
        : word("warn", "is " + span(Math.abs(apart)) + (apart > 0 ? " ahead" : " behind") + "; one of the two is wrong")]));
}

function program(s) {
  return card("program", "Agent", ["wait", ""],
    facts(["Version", s.version], ["Id", s.agent], ["Runs since", since(s.started)],
      ["Memory", bytes(s.process.heap_bytes) + " used, " + bytes(s.process.system_bytes) + " from the system"],
      ["Built with", s.process.go_version]));
}

function config(s) {
  const c = s.config, last = c.last_reload;
  return [
    facts(["File", c.path], ["In effect since", since(c.loaded_at)], ["SHA-256", c.sha256.slice(0, 16)], ["Version", s.version],
      last && ["Last read again", when(last.at), " ", last.applied ? word("good", "taken up") : word("bad", "REFUSED; the old one goes on")]),
    c.refused.length > 0 && h("div", {class: "card bad"}, h("p", {class: "why"}, "The file as it is now is not in effect, or not all of it:"), h("ul", {}, c.refused.map((r) => h("li", {}, r)))),
  ];
}

// ---- events ----

const events = {list: [], waiting: [], paused: false, source: null, since: null, state: "not connected yet"};

function event(e) {
  const urgent = e.priority === "urgent";
  return h("li", {key: e.id}, h("span", {class: "meta"}, when(e.at), " ", e.device, " ", kindOf(e.type)), urgent && [" ", word("bad", "URGENT")], h("div", {}, e.text));
}

function drawEvents() {
  const kind = byId("event-kind").value;
  put(byId("event-list"), events.list.filter((e) => e.gap || !kind || (kind === "urgent" ? e.priority === "urgent" : e.type === kind))
    .map((e) => e.gap ? h("li", {key: e.id, class: "gap"}, e.gap) : event(e)));
  say("event-state", events.state + (events.paused ? "; paused, " + plural(events.waiting.length, "waits", "wait") + (events.waiting.length === keptEvents ? " (the oldest of them are gone)" : "") : "") +
    (kind ? "; only some kinds are shown" : ""));
}

// takeEvents moves what came into the list, the newest first.
function takeEvents() {
  if (events.paused || !events.waiting.length) {
    if (events.paused) drawEvents();
    return;
  }
  const there = new Set(events.list.map((e) => e.id));
  const fresh = events.waiting.splice(0).filter((e) => !there.has(e.id));
  events.list = [...fresh.reverse(), ...events.list].slice(0, keptEvents);
  const select = byId("event-kind"), known = new Set([...select.options].map((o) => o.value));
  for (const e of fresh) {
    if (!e.gap && !known.has(e.type)) {
      known.add(e.type);
      select.add(new Option(kindOf(e.type), e.type));
    }
  }
  drawEvents();
}

function gotEvent(e) {
  events.waiting.push(e);
  if (events.waiting.length > keptEvents) events.waiting.shift();
}

function follow() {
  const source = new EventSource("/api/v1/events");
  events.source = source;
  let ended = false;
  const end = (why) => {
    if (ended) return;
    ended = true;
    source.close();
    if (events.since === null) events.since = Date.now();
    events.state = "not connected: " + why;
    drawEvents();
    setTimeout(follow, retryEvery);
  };
  source.onopen = () => {
    if (events.since !== null) {
      gotEvent({id: "gap " + events.since, gap: "What was recorded between " + clock(events.since) + " and " + clock(Date.now()) + " is not shown here; it is on disk."});
      events.since = null;
    }
    events.state = "live";
    drawEvents();
  };
  source.addEventListener("recorded", (m) => gotEvent(JSON.parse(m.data)));
  source.addEventListener("dropped", (m) => end(JSON.parse(m.data).error));
  source.onerror = () => end("the agent does not give them; it is tried again");
}

function pauseEvents() {
  events.paused = !events.paused;
  const button = byId("event-pause");
  button.setAttribute("aria-pressed", String(events.paused));
  button.textContent = events.paused ? "Go on" : "Pause";
  takeEvents();
  drawEvents();
}

// ---- log ----

const log = {list: [], last: 0, turn: 0};

function restarted() {
  log.list = [];
  log.last = 0;
  log.turn++;
}

function newLog() {
  restarted();
  say("log-state", "asking ...");
  askLog();
}

async function askLog() {
  const turn = log.turn;
  const q = new URLSearchParams({level: byId("log-level").value, after: log.last, n: keptLog});
  if (byId("log-device").value) q.set("device", byId("log-device").value);
  try {
    const said = await ask("/api/v1/log?" + q);
    if (turn !== log.turn) return; // something else was chosen meanwhile
    for (const r of said.records) log.last = Math.max(log.last, r.number);
    const there = new Set(log.list.map((r) => r.number));
    log.list = [...said.records.filter((r) => !there.has(r.number)).reverse(), ...log.list].slice(0, keptLog);
    say("log-state", log.list.length ? "the last " + plural(log.list.length, "record", "records") + ", as of " + clock(now()) : "nothing from this level on");
  } catch (e) {
    say("log-state", "the log can't be had: " + e.message);
    return;
  }
  const tones = {warn: "warn", error: "bad"};
  put(byId("log-list"), log.list.map((r) => h("li", {key: r.number},
    h("span", {class: "meta"}, when(r.at), " ", r.device), " ", word(tones[r.level] || "", r.level.toUpperCase()), h("div", {}, r.message, r.details && [" ", h("span", {class: "meta"}, r.details)]))));
}

// ---- the simulator, where one plays the instruments ----

async function askSimulator() {
  if (!status.simulated) return;
  try {
    const s = await ask("/api/v1/simulator");
    const standing = s.faults.filter((f) => f.standing).length;
    say("simulator-state", "scenario " + s.scenario + " at " + s.speed + "x, " + plural(s.vehicles, "vehicle", "vehicles") + " so far; " +
      (standing ? plural(standing, "fault stands", "faults stand") + " now" : "no fault stands now") + ", as of " + clock(now()));
    put(byId("simulator-list"), s.faults.toReversed().map((f) => h("li", {key: f.at + f.device + f.fault},
      h("span", {class: "meta"}, when(f.at), " ", f.device), " ", f.standing ? word("warn", "STANDS until " + clock(f.until)) : f.until > f.at && "until " + clock(f.until),
      h("div", {}, h("b", {}, f.fault), ": ", f.effect))));
  } catch (e) {
    say("simulator-state", "what it plays is not known: " + e.message);
    put(byId("simulator-list"), []);
  }
}

// ---- configuration ----

async function askConfig() {
  if (!byId("config-file").open) return;
  try {
    const f = await ask("/api/v1/config");
    say("config-state", f.path + (f.in_effect ? ": the agent runs with it" : ": the agent does NOT run with it as it is now on disk"));
    say("config-text", f.text);
  } catch (e) {
    say("config-state", "the file can't be had: " + e.message);
  }
}

async function reload() {
  say("reload-state", "asking ...");
  try {
    const done = await ask("/api/v1/reload", {method: "POST"});
    say("reload-state", (done.applied ? "Taken up." : "REFUSED; the old configuration goes on.") + (done.problems.length ? " " + done.problems.join("; ") : ""));
  } catch (e) {
    say("reload-state", "That did not work: " + e.message);
  }
  poll();
  askConfig();
}

byId("event-pause").addEventListener("click", pauseEvents);
byId("event-kind").addEventListener("change", drawEvents);
byId("log-level").addEventListener("change", newLog);
byId("log-device").addEventListener("change", newLog);
byId("config-file").addEventListener("toggle", askConfig);
byId("reload").addEventListener("click", reload);
document.addEventListener("visibilitychange", () => { if (!document.hidden) { draw(); poll(); } });

poll();
follow();
askLog();
setInterval(poll, pollEvery);
setInterval(draw, 1000);
setInterval(takeEvents, 250);
setInterval(askLog, logEvery);
