// What follows from the terms of a feed: the schedule, f and the quorum, the digest, and what the names of its sources mean.

const exchangeOf = (source) => source.split(":")[0].replace(/-(book|stream)$/, "");
const isEmbedded = (source) => /^embedded(-|$)/.test(exchangeOf(source));

// The last instant of a round from its start, its closing time, and the greatest lateness of a sample.
function schedule({ samples, interval_us, period_us, first_start_us, end_us }) {
  need(isWhole(samples, 1, 1000) && isWhole(interval_us, 20_000, 3_600_000_000), "samples or interval are out of bounds");
  need(period_us === 0 || isWhole(period_us, 100_000, 86_400_000_000), "the period is out of bounds");
  need(isWhole(first_start_us) && (end_us === null || (isWhole(end_us) && first_start_us < end_us)), "the schedule ends before it begins");
  const last = (samples - 1) * interval_us;
  const clear = Math.min(Math.max(Math.floor(period_us / 20), 5_000), 100_000);
  const closing = period_us === 0 ? 1_500_000 : Math.min(1_500_000, period_us - clear - last);
  need(last <= 86_400_000_000 && closing >= 20_000, "the schedule does not close");
  const travel = Math.max(Math.floor(closing / 4), 10_000);
  const reply = Math.min(closing - travel, 1_000_000);
  return { last, closing, late: Math.min(Math.floor(interval_us / 2), Math.floor(reply / 2)) };
}

function isStart({ first_start_us, period_us, end_us }, start) {
  const after = start - first_start_us;
  return after >= 0 && (period_us === 0 ? after === 0 : after % period_us === 0) && (end_us === null || start < end_us);
}

// Checks terms and seats, and returns them with all that follows from them.
async function settle(terms, seats) {
  const n = seats.length;
  need(n >= 1 && n <= 4096, "there are no collectors, or too many");
  need(isFeed(terms.feed) && seats.every((seat) => isSource(seat.source)), "a name is none");
  need(Object.hasOwn(RULES, terms.rule) && ["median", "mean"].includes(terms.sample_rule), "a rule is not known");
  need(terms.spread_ppm_max === null || isWhole(terms.spread_ppm_max, 0, 1_000_000), "the greatest spread is out of bounds");
  const exchanges = new Set(seats.map((seat) => exchangeOf(seat.source)));
  need(isWhole(terms.exchanges_min, 1, exchanges.size), "more exchanges are asked for than there are");
  for (const seat of seats) if (seat.key !== null) await importKey(seat.key);
  const fields = new Fields("terms").text(terms.feed, 16).number(RULES[terms.rule], 2).number(RULES[terms.sample_rule], 2);
  fields.number(terms.exchanges_min, 2).numberOrNone(terms.age_us_max).numberOrNone(terms.spread_ppm_max, 4).number(terms.samples, 4);
  fields.number(terms.interval_us).number(terms.period_us).number(terms.first_start_us).numberOrNone(terms.end_us).number(n, 2);
  for (const { key, source } of seats) (key === null ? fields.zeros(32) : fields.hex(key, 32)).text(source, 32);
  const f = terms.rule === "mean" ? 0 : Math.floor((n - 1) / 3);
  const quorum = Math.max(2 * f + 1, Math.floor(n / 2) + 1);
  return { terms, seats, n, f, quorum, ...schedule(terms), digest: await fields.digest() };
}

// The quote currency of a source, or null if it is the feed's own.
function foreignQuote(feed, source) {
  let symbol = source.slice(source.indexOf(":") + 1);
  const abbreviates = exchangeOf(source).endsWith("bitfinex");
  if (abbreviates) symbol = symbol.replace(/^t/, "");
  symbol = symbol.toUpperCase();
  const slash = feed.indexOf("/");
  const [base, own] = slash < 0 ? ["", ""] : [feed.slice(0, slash), feed.slice(slash + 1)];
  const rest = (symbol.startsWith(base) ? symbol.slice(base.length) : symbol).replace(/^[^A-Za-z0-9]+/, "");
  if (own !== "" && rest === own) return null;
  if (abbreviates && rest.endsWith("UST")) return own === "USDT" ? null : "USDT";
  if (abbreviates && rest.endsWith("UDC")) return own === "USDC" ? null : "USDC";
  const known = ["USDT", "USDC", "FDUSD", "TUSD", "GUSD", "USD", "EUR", "GBP", "JPY", "BTC"].find((end) => rest.endsWith(end));
  if (known) return known === own ? null : known;
  return own !== "" && rest.endsWith(own) ? null : "other";
}

// How many different names there are, and how many of them may fail: from the most frequent on, together at most f slots.
function groups(names, f) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  let [tolerated, slots] = [0, 0];
  for (const count of [...counts.values()].sort((a, b) => b - a)) {
    slots += count;
    if (slots > f) break;
    tolerated += 1;
  }
  return [counts.size, tolerated];
}
