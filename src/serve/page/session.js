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

// What is kept of a report. Nothing is taken from one that is wrong, except that it was there.
function pointOf(number, { report, verdict }, before) {
  const at = isWhole(report?.round_start_us) ? report.round_start_us : (before?.at ?? nowUs());
  const point = { number, at, state: verdict, price: null, time_us: null, decision: "wrong", why: "", used: null, all: null, slots: [] };
  if (verdict === "wrong") return point;
  const given = report.collectors.filter((seat) => seat.price !== null && seat.second === null);
  const { price, time_us, decision, prices, quorum } = report;
  return Object.assign(point, {
    price, time_us, decision, why: decision === "no-quorum" ? `${prices} of ${report.n} collectors gave a price; ${quorum} are needed` : "",
    used: price === null ? null : rangeOf(given.filter((seat) => seat.standing === "used").map((seat) => seat.price)),
    all: rangeOf(given.map((seat) => seat.price)),
    slots: report.collectors.slice(0, SLOTS_SHOWN_MAX).map((seat) => seat.price ?? NaN),
  });
}

class Session {
  // `changed` is called whenever there is something new to show.
  constructor(server, wanted, roster, unable, changed) {
    Object.assign(this, { server, wanted, roster, unable, changed });
    Object.assign(this, { feeds: [], feed: null, chain: null, points: [], newest: null, said: [], connection: "connecting" });
    this.reset();
    this.over = new AbortController();
  }

  reset() {
    this.queue = [];
    this.points = [];
    this.newest = null;
    this.before = null;
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
      need(report.feed === this.feed, "it is of another feed");
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
      this.add(number, result, (point) => this.points.push(point));
      this.newest = { number, ...result };
      this.trim();
      this.changed();
    }
  }

  // Makes a point of a report that follows `before`.
  add(number, result, keep, before = this.before) {
    const point = pointOf(number, result, this.points.at(-1));
    const follows = before && result.verdict !== "wrong" && before.number + 1 === number;
    point.broken = follows ? chainBreak(before, result.report) : null;
    if (before === this.before) this.before = result.verdict === "wrong" ? null : result.report;
    keep(point);
  }

  trim() {
    const oldest = (this.points.at(-1)?.at ?? 0) - PAST_US;
    const from = Math.max(this.points.length - POINTS_MAX, this.points.findIndex((point) => point.at >= oldest));
    this.points.splice(0, Math.max(0, from));
  }

  // Gets the reports before `until`, a tile at a time, the newest ones first.
  async fill(until, first, opening) {
    for (let tile = Math.floor((until - 2) / TILE_REPORTS); tile >= 0 && (tile + 1) * TILE_REPORTS >= first; tile--) {
      let batch;
      try {
        batch = await this.tile(tile, until, opening);
      } catch (error) {
        if (opening !== this.opening || error instanceof Wrong) return;
        await pause(RETRY_MS);
        tile += 1;
        continue;
      }
      if (opening !== this.opening) return;
      this.points.unshift(...batch);
      this.trim();
      this.changed();
      const reached = this.points.at(-1)?.at - (batch[0]?.at ?? Infinity);
      if (batch.length === 0 || this.points.length >= POINTS_MAX || reached >= PAST_US) return;
    }
  }

  async tile(tile, until, opening) {
    const answer = await fetch(this.url(`/v1/tiles/${tile}`, { feed: this.feed, chain: this.chain }), { signal: this.over.signal });
    need(answer.ok, "there is no such tile");
    const batch = [];
    let [rest, before, read] = ["", null, 0];
    for await (const text of pieces(answer.body)) {
      read += text.length;
      need(read <= TILE_CHARS_MAX, "the tile is too large");
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const result = await this.check(line);
        if (opening !== this.opening) return [];
        const number = result.report?.number;
        if (!isWhole(number, (batch.at(-1)?.number ?? 0) + 1, until - 1)) continue;
        this.add(number, result, (point) => batch.push(point), before ?? {});
        before = result.verdict === "wrong" ? null : result.report;
      }
    }
    return batch;
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
