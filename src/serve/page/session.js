// Follows one feed: the newest reports by a stream, those of the last hours by tiles. Every report is checked before it is shown.

const TILE_REPORTS = 256;
// What is kept of the past: so many rounds, and no more than these hours.
const POINTS_MAX = 1280;
const PAST_US = 3 * 3600e6;
const SLOTS_SHOWN_MAX = 256;
// Reports that wait to be checked. With more of them the stream is opened anew.
const BACKLOG_MAX = 1024;
const TILE_CHARS_MAX = 64 * 1024 * 1024;
const RETRY_MS = 2000;

const nowUs = () => Date.now() * 1000;
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const rangeOf = (prices) => (prices.length === 0 ? null : prices.reduce(([low, high], price) => [Math.min(low, price), Math.max(high, price)], [Infinity, -Infinity]));

const isRecorded = (report) => report?.embedded === true || (report?.collectors ?? []).some((seat) => isSource(seat?.source) && isEmbedded(seat.source));

// What is kept of a report. Nothing is taken from one that is wrong, except that it was there: its time is that of the point before it.
function pointOf(number, { report, verdict }, before) {
  const at = verdict === "wrong" ? (before?.at ?? null) : report.round_start_us;
  const point = { number, at, state: verdict, price: null, time_us: null, decision: "wrong", why: "", used: null, all: null, slots: [], broken: null, isRecorded: false };
  if (verdict === "wrong") return point;
  const given = report.collectors.filter((seat) => seat.price !== null && seat.second === null);
  const { price, time_us, decision, prices, quorum } = report;
  return Object.assign(point, {
    price, time_us, decision, why: decision === "no-quorum" ? `${prices} of ${report.n} collectors gave a price; ${quorum} are needed` : "",
    used: price === null ? null : rangeOf(given.filter((seat) => seat.standing === "used").map((seat) => seat.price)),
    all: rangeOf(given.map((seat) => seat.price)),
    slots: report.collectors.slice(0, SLOTS_SHOWN_MAX).map((seat) => seat.price ?? NaN),
    isRecorded: isRecorded(report),
  });
}

// Refuses a report whose round is not a newer one, whoever signed it: an aggregator can number and sign an old round anew.
function outOfOrder(result) {
  Object.assign(result, { verdict: "wrong", wrong: [...result.wrong, "its round does not start after that of a report seen here"] });
}

class Session {
  // `changed` is called whenever there is something new to show.
  constructor(server, wanted, roster, unable, changed) {
    Object.assign(this, { server, wanted, roster, unable, changed });
    Object.assign(this, { feeds: [], feed: null, chain: null, points: [], newest: null, said: [], connection: "connecting" });
    // The start of the newest round of each feed. It outlives a server that begins anew.
    this.starts = new Map();
    this.reset();
    this.over = new AbortController();
  }

  reset() {
    this.queue = [];
    this.points = [];
    this.newest = null;
    // The first report that is right, with its point, and the last one.
    [this.first, this.last] = [null, null];
    // Reports of an older opening are dropped.
    this.opening = (this.opening ?? 0) + 1;
  }

  url(path, query) {
    return `${this.server}${path}?${new URLSearchParams(query)}`;
  }

  state(connection) {
    this.connection = connection;
    this.changed();
  }

  async check(line) {
    if (!this.unable) return checkLine(line, this.roster, nowUs(), this.feed);
    try {
      const report = JSON.parse(line);
      need(report.feed === this.feed && isWhole(report.round_start_us, 0, nowUs() + FUTURE_US_MAX), "it is of another feed or time");
      const result = { report, slots: report.collectors.map(() => undefined), wrong: [], verdict: "unchecked" };
      pointOf(1, result, null);
      return result;
    } catch {
      return { report: null, slots: [], wrong: ["it has not the form of a report"], verdict: "wrong" };
    }
  }

  async start() {
    while (!this.over.signal.aborted) {
      try {
        const answer = await fetch(`${this.server}/v1/feeds`, { signal: this.over.signal });
        const { feeds } = await answer.json();
        this.feeds = Array.isArray(feeds) ? feeds.filter((one) => isFeed(one.feed)) : [];
        const entry = this.feeds.find((one) => one.feed === this.wanted) ?? this.feeds[0];
        if (entry && isWhole(entry.last, 1)) return this.open(entry);
        this.state("waiting for the first report");
      } catch {
        if (!this.over.signal.aborted) this.state("lost");
      }
      await pause(RETRY_MS);
    }
  }

  open({ feed, chain, first, last }) {
    Object.assign(this, { feed, chain, cursor: `${chain}-${last - 1}` });
    this.listen();
    this.fill(last, first, this.opening);
  }

  // Begins anew, since the server has other reports than before.
  restart(why) {
    this.source?.close();
    this.said = [...this.said.slice(-1), why];
    this.reset();
    this.state("connecting");
    setTimeout(() => this.start(), RETRY_MS);
  }

  listen() {
    const { opening } = this;
    const source = (this.source = new EventSource(this.url("/v1/stream", { feed: this.feed, since: this.cursor })));
    source.onopen = () => this.state("live");
    source.onmessage = ({ data, lastEventId }) => {
      this.cursor = lastEventId;
      this.queue.push([Number(lastEventId.split("-").at(-1)), data]);
      if (this.queue.length > BACKLOG_MAX) this.restart("More reports came than this device can check. It went on with the newest.");
      else if (this.queue.length === 1) this.pump(opening);
    };
    source.onerror = () => {
      this.state("lost");
      // A browser calls again by itself, unless the answer was no stream.
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(() => this.source === source && !this.over.signal.aborted && this.listen(), RETRY_MS);
      }
    };
    for (const [name, why] of [
      ["journal-replaced", "The server’s journal was replaced."],
      ["cursor-ahead", "The server has fewer reports than before."],
      ["cursor-too-old", "The server no longer has the reports that follow those seen here."],
    ]) {
      source.addEventListener(name, () => this.restart(why));
    }
  }

  // Checks the reports that wait, one after the other.
  async pump(opening) {
    while (opening === this.opening && this.queue.length > 0) {
      const [number, line] = this.queue[0];
      const result = await this.check(line);
      if (opening !== this.opening) return;
      this.queue.shift();
      if (result.report && result.report.number !== number) {
        Object.assign(result, { verdict: "wrong", wrong: [...result.wrong, `it was sent as report ${number}`] });
      }
      if (!isWhole(number, (this.points.at(-1)?.number ?? 0) + 1)) continue;
      this.add(number, result, this, this.starts.get(this.feed));
      this.points.at(-1).at ??= nowUs();
      this.newest = { number, ...result };
      this.trim();
      this.changed();
    }
  }

  // Adds a report to a run of them, in which it starts after the last one. None starts before `least`.
  add(number, result, run, least = 0) {
    const { report } = result;
    const isLater = (start) => start >= least && !(start <= run.last?.round_start_us);
    if (result.verdict !== "wrong" && !isLater(report.round_start_us)) outOfOrder(result);
    const point = pointOf(number, result, run.points.at(-1));
    run.points.push(point);
    if (result.verdict === "wrong") return;
    point.broken = run.last && chainBreak(run.last, report);
    run.first ??= { point, report };
    run.last = report;
    // What nobody signed can have any start.
    if (result.verdict !== "unsigned") this.starts.set(this.feed, Math.max(this.starts.get(this.feed) ?? 0, report.round_start_us));
  }

  // Puts a run before the reports that are there. What does not start after it was not the newest.
  join({ points, first, last }) {
    const start = last?.round_start_us;
    for (const point of this.points) {
      if (point.state === "wrong" || !(point.at <= start)) continue;
      Object.assign(point, pointOf(point.number, { verdict: "wrong" }, { at: start }));
      if (this.newest.number === point.number) outOfOrder(this.newest);
    }
    if (last && this.first && this.first.point.state !== "wrong") this.first.point.broken ??= chainBreak(last, this.first.report);
    const from = points.find((point) => point.at !== null)?.at ?? this.points[0]?.at ?? nowUs();
    for (const point of points) point.at ??= from;
    this.points.unshift(...points);
    this.first = first ?? this.first;
    this.last ??= last;
  }

  trim() {
    const oldest = (this.points.at(-1)?.at ?? 0) - PAST_US;
    const from = Math.max(this.points.length - POINTS_MAX, this.points.findIndex((point) => point.at >= oldest));
    this.points.splice(0, Math.max(0, from));
  }

  // Gets the reports before `until`, a tile at a time, the newest ones first.
  async fill(until, first, opening) {
    for (let tile = Math.floor((until - 2) / TILE_REPORTS); tile >= 0 && (tile + 1) * TILE_REPORTS >= first; tile--) {
      let run;
      try {
        run = await this.tile(tile, until, opening);
      } catch (error) {
        if (opening !== this.opening || error instanceof Wrong) return;
        await pause(RETRY_MS);
        tile += 1;
        continue;
      }
      if (opening !== this.opening) return;
      this.join(run);
      this.trim();
      this.changed();
      const reached = this.points.at(-1)?.at - (run.points[0]?.at ?? Infinity);
      if (run.points.length === 0 || this.points.length >= POINTS_MAX || reached >= PAST_US) return;
    }
  }

  async tile(tile, until, opening) {
    const answer = await fetch(this.url(`/v1/tiles/${tile}`, { feed: this.feed, chain: this.chain }), { signal: this.over.signal });
    need(answer.ok, "there is no such tile");
    const run = { points: [], first: null, last: null };
    let [rest, read] = ["", 0];
    for await (const text of pieces(answer.body)) {
      read += text.length;
      need(read <= TILE_CHARS_MAX, "the tile is too large");
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const result = await this.check(line);
        if (opening !== this.opening) return run;
        const number = result.report?.number;
        if (!isWhole(number, (run.points.at(-1)?.number ?? 0) + 1, until - 1)) continue;
        this.add(number, result, run);
      }
    }
    return run;
  }

  close() {
    this.over.abort();
    this.source?.close();
    this.opening += 1;
  }
}

async function* pieces(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) yield piece.value;
}
