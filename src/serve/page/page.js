// Shows what a session has, and takes the roster. Text reaches the page as text only.

const byId = (id) => document.getElementById(id);
const ROSTER_KEPT = "rsoracle roster";
const STRIP_ROUNDS = 60;
const NOTES_MAX = 6;
const HOUR_US = 3600e6;
const MARKS = { proved: "✓", consistent: "·", unsigned: "·", unchecked: "?", wrong: "✗" };
const REASONS = {
  "no-quorum": "too few collectors gave a price",
  "moved-too-far": "the price was withheld: it moved too far at once",
  "spread-too-wide": "the price was withheld: the collectors differ too much",
};

let session = null;
let roster = null;
let rosterText = "";
let unable = "checking";
let chart = null;
let drawn = false;
const rows = [];

function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

// A price as rsoracle shows it: at least two decimals and seven significant digits.
// What belongs to a price, such as a spread, has as many decimals.
function shown(price, of = price) {
  if (typeof price !== "number") return "–";
  const digits = Math.min(12, Math.max(2, 6 - Math.floor(Math.log10(of))));
  return price.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function long(us) {
  const seconds = us / 1e6;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${String(Math.floor(seconds % 60)).padStart(2, "0")} s`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${String(Math.floor((seconds % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(seconds / 86400)} days`;
}

const late = (us) => (us < 1000 ? `${us} µs` : `${(us / 1000).toFixed(us < 10_000 ? 1 : 0)} ms`);
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

// The newest price: that of the newest report, or else of one before it that was checked here. What a report says of the price that was
// published last is the aggregator's word only.
const newestPrice = () => session.points.findLast(({ price }) => price !== null) ?? null;

// After which age a price is old: a round, two periods and 5 s. Null if that is not known.
function staleUs() {
  try {
    const { last, closing } = schedule(session.newest.report);
    return last + closing + 2 * session.newest.report.period_us + 5e6;
  } catch {
    return null;
  }
}

// What ages while nothing comes.
function tick() {
  if (!session?.newest) return;
  const price = newestPrice();
  const age = price && nowUs() - price.time_us;
  const limit = staleUs();
  const stale = price !== null && limit !== null && age > limit;
  const old = price === null ? "no price yet" : age < -1e6 ? "from the future, by this device’s clock" : `${long(Math.max(0, age))} old`;
  say(byId("age"), price && session.newest.verdict === "wrong" ? `the last good price, ${shown(price.price)}, is ${old}` : old);
  byId("hero").classList.toggle("stale", stale);
  if (stale !== tick.stale) {
    tick.stale = stale;
    showVerdict();
  }
  const title = price ? `${shown(price.price)} ${session.feed}` : session.feed;
  if (document.title !== (stale ? `⚠ ${title}` : title)) document.title = stale ? `⚠ ${title}` : title;
}

function showFeeds() {
  const names = session.feeds.map(({ feed }) => feed);
  const nav = byId("feeds");
  nav.hidden = names.length < 2;
  if (nav.dataset.names !== names.join(",")) {
    nav.dataset.names = names.join(",");
    nav.replaceChildren(...names.map((name) => {
      const button = element("button", "", name);
      button.type = "button";
      button.onclick = () => {
        settings.set("feed", name);
        location.replace(`#${settings}`);
      };
      return button;
    }));
  }
  for (const button of nav.children) button.setAttribute("aria-pressed", button.textContent === session.feed);
  byId("theirs").href = `${session.server}/v1/roster`;
  const words = { live: "live", lost: "connection lost, trying again", connecting: "connecting" };
  const connection = byId("connection");
  say(connection, words[session.connection] ?? session.connection);
  connection.className = `connection ${session.connection === "live" || session.connection === "lost" ? session.connection : ""}`;
}

function showHero() {
  const { newest } = session;
  const price = newestPrice();
  const hero = byId("hero");
  say(byId("feed"), session.feed ?? "…");
  const { report, verdict } = newest;
  const priced = verdict !== "wrong" && report.price !== null;
  // What does not check is shown, but crossed out.
  const isCrossedOut = verdict === "wrong" && typeof report?.price === "number";
  hero.classList.toggle("wrong", isCrossedOut);
  hero.classList.toggle("old", !priced && !isCrossedOut);
  const claimed = isCrossedOut ? report.price : price?.price;
  say(byId("price"), shown(claimed));
  hero.classList.toggle("long", byId("price").textContent.length > 10);
  const exact = claimed === undefined ? "" : decimal(claimed);
  byId("price").title = exact;
  say(byId("exact"), exact === "" || exact === byId("price").textContent.replaceAll(",", "") ? "" : `exactly ${exact}`);
  say(byId("round"), `round ${newest.number}`);
  say(byId("spread"), priced ? `spread ${shown(report.spread, report.price)}` : "");
  byId("recorded").hidden = !(isRecorded(report) || session.points.some((point) => point.isRecorded));
  const trouble = byId("trouble");
  trouble.hidden = priced || verdict === "wrong";
  if (!trouble.hidden) {
    const { why } = session.points.at(-1);
    say(trouble, `The newest round has no price: ${REASONS[report.decision] ?? report.decision}${why && ` (${why})`}.`);
  }
}

// What the check of the newest report came to, in a word and a sentence.
function verdictOf({ report, slots, wrong, verdict }) {
  const signatures = verdict === "wrong" ? 0 : count(report.signatures_verified, "signature");
  if (verdict === "proved") return ["proved", "Checked in this browser", `${signatures} by keys of your roster, and the same price, bit for bit.`];
  if (verdict === "consistent") return ["consistent", "Consistent, signers unknown", `${signatures} and the price check, but anyone can make keys. Give this page your roster.`];
  if (verdict === "unsigned") return ["unsigned", "Nothing signed", "No collector of your roster signed anything in this report."];
  if (verdict === "unchecked") return ["warn", "Not checked", unable];
  const bad = slots.flatMap((why, slot) => (why ? [slot] : []));
  const whose = bad.length === 0 ? "" : `Collector ${bad.slice(0, 9).join(", ")}: ${slots[bad[0]]}. `;
  const next = wrong.length === 0 ? "" : `${wrong.slice(0, 3).join("; ")}.`;
  return ["wrong", "Does not check", whose + next];
}

function showVerdict() {
  if (!session.newest) return;
  let [kind, word, why] = verdictOf(session.newest);
  if (tick.stale && kind !== "wrong") {
    const { period_us, end_us } = session.newest.report;
    const next = period_us === 0 ? "It was a single round." : end_us !== null && end_us <= nowUs() ? "No more rounds will come." : "A newer one is due.";
    [kind, word, why] = ["warn", "Old price", `${next} (${word}: ${why})`];
  } else if (kind === "proved" && session.newest.report.price === null) {
    [kind, word, why] = ["warn", "No price", "What the collectors signed was checked, and makes no price."];
  }
  byId("verdict").className = `verdict ${kind}`;
  say(byId("verdict-mark"), kind === "warn" ? "!" : MARKS[kind]);
  say(byId("verdict-word"), word);
  say(byId("verdict-why"), why);
}

function row(slot) {
  if (rows[slot]) return rows[slot];
  const cells = Object.fromEntries(["mark", "source", "last", "deviation", "late", "spark", "state"].map((name) => {
    const isNumber = ["last", "deviation", "late"].includes(name);
    return [name, element("td", isNumber ? `${name} number` : name)];
  }));
  const tr = element("tr");
  tr.append(...Object.values(cells));
  byId("slots").append(tr);
  return (rows[slot] = { tr, source: null, ...cells, name: cells.source });
}

function stateOf(seat) {
  if (seat.standing === "equivocated") return ["signed two different answers", true];
  if (seat.standing === "silent") return ["silent", true];
  if (seat.standing === "abstained") return [`abstains: ${seat.abstains}`, true];
  const missed = seat.samples.filter((sample) => sample.missing !== undefined);
  const more = missed.length === 0 ? "" : `, ${missed.length} of ${seat.samples.length} samples missed: ${missed[0].missing}`;
  return [seat.standing + more, false];
}

function showSlot(slot, seat, hour) {
  const { verdict, slots, report } = session.newest;
  const cells = row(slot);
  const why = slots[slot] ?? null;
  const state = why !== null ? "wrong" : slots[slot] === null && seat.signature !== null && session.roster ? "proved" : "consistent";
  const last = session.points.findLast((point) => Number.isFinite(point.slots[slot]));
  const price = why === null && seat.price !== null ? seat.price : last?.slots[slot];
  const now = why === null && seat.price !== null;
  cells.tr.className = `${state} ${now ? "" : "without"}`;
  cells.tr.dataset.slot = slot;
  say(cells.mark, why !== null ? "✗" : seat.signature === null ? "–" : MARKS[verdict === "unchecked" ? "unchecked" : state]);
  cells.mark.title = { proved: "its signatures were checked against your roster", wrong: why ?? "", consistent: "not checked against a roster" }[state];
  const [kind, ...symbol] = String(seat.source).split(":");
  cells.name.replaceChildren(element("b", "", kind), " ", element("span", "symbol", symbol.join(":")));
  say(cells.last, shown(price));
  cells.last.title = price === undefined ? "" : decimal(price);
  const off = now && verdict !== "wrong" && report.price !== null ? (price / report.price - 1) * 100 : null;
  say(cells.deviation, off === null ? "–" : `${off < 0 ? "−" : off > 0 ? "+" : ""}${Math.abs(off).toFixed(4)} %`);
  const lateness = now ? seat.samples.filter((sample) => sample.price !== undefined).map((sample) => sample.lateness_us) : [];
  say(cells.late, lateness.length === 0 ? "–" : late(rangeOf(lateness)[1]));
  cells.late.classList.toggle("absent", lateness.length === 0);
  // In a report that does not check, what became of an answer is the aggregator's word.
  const [words, isWarning] = why !== null ? [why, false] : verdict === "wrong" ? ["", false] : stateOf(seat);
  say(cells.state, words);
  cells.state.classList.toggle("warned", isWarning);
  cells.spark.replaceChildren(drawSpark(hour, slot, report.period_us));
}

function showSlots() {
  const { report, verdict } = session.newest;
  // A report that cannot be read leaves the prices that were there before.
  if (!Array.isArray(report?.collectors)) {
    for (const { tr, mark } of rows) {
      tr.className = "without";
      say(mark, "–");
    }
    return;
  }
  const end = session.points.at(-1).at;
  const hour = session.points.filter((point) => point.at >= end - HOUR_US);
  const seats = report.collectors.slice(0, SLOTS_SHOWN_MAX);
  for (const one of rows.splice(seats.length)) one.tr.remove();
  seats.forEach((seat, slot) => {
    try {
      showSlot(slot, seat, hour);
    } catch {
      const { tr, state } = row(slot);
      tr.className = "wrong";
      say(state, "it has not the form of an answer");
    }
  });
  say(byId("given"), verdict === "wrong" ? "" : `${report.prices} of ${report.n} gave a price, ${report.quorum} are needed, ${report.f} may lie`);
  byId("more").hidden = report.collectors.length <= seats.length;
  say(byId("more"), `and ${report.collectors.length - seats.length} more`);
}

// What there is to say of the rounds: a kind, when, and what. Rounds that follow each other with the same to say are one note.
function notesOf(points) {
  const notes = session.said.map((what) => ({ kind: "", when: "", what }));
  const note = (kind, point, what, detail = "") => {
    const before = notes.at(-1);
    const goesOn = before?.last === point.number - 1 && before.what === what;
    if (goesOn) Object.assign(before, { last: point.number, count: before.count + 1, detail });
    else notes.push({ kind, when: clock(point.at, true), what, detail, last: point.number, count: 1 });
  };
  points.forEach((point, at) => {
    const missing = at === 0 ? 0 : point.number - points[at - 1].number - 1;
    if (missing === 1) note("gap", point, `report ${point.number - 1} missing`);
    if (missing > 1) note("gap", point, `reports ${point.number - missing} to ${point.number - 1} missing`);
    if (point.state === "wrong") note("wrong", point, "a report that does not check");
    else if (point.price === null) note("", point, `no price: ${REASONS[point.decision]}`, point.why);
    if (point.broken) note("wrong", point, point.broken);
  });
  return notes.slice(-NOTES_MAX).reverse();
}

function showRounds() {
  const points = session.points.slice(-STRIP_ROUNDS);
  const cells = points.flatMap((point, at) => {
    const cell = element("i", `${point.state} ${point.price === null ? "none" : ""}`);
    cell.dataset.number = point.number;
    cell.title = `${clock(point.at, true)} · report ${point.number} · ${point.price === null ? point.decision : shown(point.price)}`;
    if (at === 0 || point.number === points[at - 1].number + 1) return [cell];
    const gap = element("i", "gap");
    gap.title = "missing reports";
    return [gap, cell];
  });
  byId("strip").replaceChildren(...cells);
  const priced = session.points.filter((point) => point.price !== null).length;
  say(byId("counted"), `${priced} of the last ${count(session.points.length, "round")} have a price`);
  byId("notes").replaceChildren(...notesOf(session.points).map(({ kind, when, what, detail, count: rounds }) => {
    const item = element("li", kind);
    item.append(element("b", "", when), ` ${what}${detail ? ` (${detail})` : ""}${rounds > 1 ? `, ${rounds} rounds` : ""}`);
    return item;
  }));
}

function showChart() {
  const box = byId("chart");
  const { points, newest } = session;
  chart = drawChart(points, newest.report?.period_us ?? 0, box.clientWidth, box.clientHeight);
  box.replaceChildren(chart.root);
  const spanUs = points.length > 1 ? points.at(-1).at - points[0].at : 0;
  say(byId("span"), spanUs > 0 ? `of the last ${long(spanUs).replace(/ 00 (s|min)$/, "")}` : "");
}

// Nothing stays of another feed, or of a server that began anew: its age would stand still.
function showNothing() {
  for (const [id, text] of [["price", "–"], ["exact", ""], ["spread", ""], ["round", ""], ["age", "waiting for a report"], ["given", ""], ["counted", ""], ["span", ""]]) say(byId(id), text);
  for (const [id, text] of [["feed", session.feed ?? "…"], ["verdict-mark", "·"], ["verdict-word", "Not checked yet"], ["verdict-why", ""]]) say(byId(id), text);
  for (const id of ["trouble", "more"]) byId(id).hidden = true;
  for (const id of ["chart", "strip", "notes"]) byId(id).replaceChildren();
  for (const one of rows.splice(0)) one.tr.remove();
  byId("price").title = "";
  byId("hero").className = "card hero";
  byId("verdict").className = "verdict unchecked";
  document.title = session.feed ?? "rsoracle";
  [chart, tick.stale] = [null, undefined];
}

function show() {
  drawn = false;
  showFeeds();
  if (!session.newest) return showNothing();
  showHero();
  showSlots();
  showChart();
  showRounds();
  tick();
  showVerdict();
}

function changed() {
  if (!drawn) {
    drawn = true;
    requestAnimationFrame(show);
  }
}

// What the address says behind #: the feed, and in a copy of this page the server.
let settings = new URLSearchParams();

function open() {
  settings = new URLSearchParams(location.hash.slice(1));
  // A proxy may have the server under a path of its own.
  const own = location.origin + location.pathname.replace(/\/[^/]*$/, "");
  const named = (settings.get("server") ?? "").replace(/\/+$/, "");
  // What has another scheme could be a script, as in a link.
  const server = location.protocol !== "file:" ? own : /^https?:\/\/[^/]/.test(named) ? named : "";
  session?.close();
  session = new Session(server, settings.get("feed"), roster, unable, () => changed());
  changed();
  if (location.protocol === "file:" && server === "") {
    session.state("add #server=https://HOST to the address of this copy");
    return;
  }
  session.start();
}

function showRoster(error) {
  const line = byId("roster-state");
  line.className = error ? "wrong" : "";
  byId("forget").hidden = !roster;
  if (error) say(line, `This is no valid roster: ${error}. ${roster ? "The one before it still counts." : ""}`);
  else if (roster) say(line, `Roster ${roster.number}, digest ${roster.digest}, with ${count(roster.feeds.size, "feed")}: ${[...roster.feeds.keys()].slice(0, 9).join(", ")}`);
  else say(line, unable ?? "No roster yet. Without one this page can only say whether reports are consistent, not who signed them.");
}

async function use(text) {
  if (unable) return showRoster(unable);
  try {
    roster = await readRoster(text);
    rosterText = text;
    byId("roster").value = text;
  } catch (error) {
    return showRoster(error.message);
  }
  keep(text);
  showRoster();
  open();
}

async function useFile(file) {
  let text = "";
  try {
    // A file of any size may be dropped: it is not read to find out.
    need(file.size <= ROSTER_BYTES_MAX, "it is longer than 1 MiB");
    text = await file.text();
  } catch (error) {
    return showRoster(error instanceof Wrong ? error.message : "the file cannot be read");
  }
  return use(text);
}

function keep(text) {
  try {
    if (text === null) localStorage.removeItem(ROSTER_KEPT);
    else localStorage.setItem(ROSTER_KEPT, text);
  } catch {
    // This browser keeps nothing.
  }
}

function listenToUser() {
  byId("use").onclick = () => use(byId("roster").value);
  byId("file").onchange = ({ target }) => target.files[0] && useFile(target.files[0]);
  byId("forget").onclick = () => {
    roster = null;
    byId("roster").value = "";
    keep(null);
    showRoster();
    open();
  };
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) useFile(file);
    else use(event.dataTransfer.getData("text"));
  });
  addEventListener("hashchange", open);
  new ResizeObserver(changed).observe(byId("chart"));
  const read = (event) => {
    const point = chart?.find(event ? event.clientX - byId("chart").getBoundingClientRect().left : null);
    byId("reading").value = point ? `${clock(point.at, true)} · ${point.price === null ? "no price" : shown(point.price)}` : "";
  };
  byId("chart").onpointermove = read;
  byId("chart").onpointerleave = () => read(null);
  setInterval(tick, 100);
}

(async () => {
  unable = await whyUnable();
  try {
    const kept = localStorage.getItem(ROSTER_KEPT);
    if (kept && !unable) {
      roster = await readRoster(kept);
      byId("roster").value = kept;
    }
  } catch {
    // Nothing was kept, or nothing that counts any more.
  }
  showRoster();
  open();
  listenToUser();
})();
