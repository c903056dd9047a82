// Checks a report as docs/PROTOCOL.md says: replays the round from what was signed, and writes the line again.

const NO_ANSWER = 80;
const FUTURE_US_MAX = 5_000_000;

// The text of a number: the fewest digits that read back as it, without an exponent.
function decimal(value) {
  const [digits, exponent] = String(value).split("e");
  if (exponent === undefined) return digits;
  const [whole, part = ""] = digits.split(".");
  const shift = Number(exponent);
  if (shift < 0) return `0.${"0".repeat(-shift - 1)}${whole}${part}`;
  return (whole + part).padEnd(shift + 1, "0");
}

// Writes a value as a report has it.
function write(value) {
  if (value === null || typeof value === "boolean") return String(value);
  if (typeof value === "number") return decimal(value);
  if (typeof value === "string") return `"${value}"`;
  if (Array.isArray(value)) return `[${value.map(write).join(",")}]`;
  return `{${Object.entries(value).map(([key, of]) => `"${key}":${write(of)}`).join(",")}}`;
}

const words = (us) => (us === null ? null : new Date(Math.floor(us / 1000)).toISOString());
const ascending = (numbers) => [...numbers].sort((a, b) => a - b);

// Of prices in ascending order. All steps are rounded as the document has it, so the result is the same to the bit.
function mean(prices) {
  let total = 0;
  for (const price of prices) total += price;
  return Math.min(Math.max(total / prices.length, prices[0]), prices.at(-1));
}

function kept(rule, sorted, f) {
  const cut = { "trimmed-mean": f, median: Math.max(0, Math.floor((sorted.length - 1) / 2)), mean: 0 }[rule];
  return sorted.length > 2 * cut ? sorted.slice(cut, sorted.length - cut) : [];
}

function addRecord(fields, index, sample, known) {
  const { price, missing, lateness_us: late = null, age_us: age = null } = sample;
  need((price === undefined) !== (missing === undefined), `sample ${index} has a price and none`);
  const code = missing === undefined ? 0 : MISSES.indexOf(missing) + 1;
  if (code === 0) {
    need(isPrice(price) && isWhole(late, 0, known.late), `sample ${index} is too late or has no price`);
    need(age === null || (isWhole(age) && age <= (known.terms.age_us_max ?? TIME_US_MAX)), `sample ${index} is too old`);
  } else {
    need(code > 0 && age === null && (late === null || isWhole(late)), `sample ${index} contradicts itself`);
  }
  fields.number(index, 4).number(code, 2).zeros(2).f64(price ?? null).numberOrNone(late).numberOrNone(age);
}

// The average and timestamp of an answer, as they are signed.
function addAnswer(fields, { price, abstains, timestamp_us }) {
  need((price === null) !== (abstains === null), "it has a price and abstains, or neither");
  if (abstains === null) {
    need(isPrice(price), "its price is none");
    return fields.f64(price).number(timestamp_us);
  }
  const code = ABSTENTIONS.indexOf(abstains) + 1;
  need(code > 0, "its abstention is not known");
  return fields.raw([0x7f, 0xf8, 0, 0, 0, 0, 0, code]).number(timestamp_us);
}

// Checks an answer's signature. Returns what is signed about it, and its 80 bytes.
async function checkAnswer(known, slot, start, digest, answer) {
  const said = new Fields("observation").raw(known.digest).number(slot, 2).number(start).raw(digest);
  const message = addAnswer(said, answer).done();
  need(await isSigned(known.seats[slot].key ?? "", message, answer.signature), "the signature does not check");
  return { signed: hex(message), bytes: addAnswer(new Fields(), answer).hex(answer.signature, 64).done() };
}

// Checks what a slot says: samples, average, timestamp and signatures. Returns the bytes that the aggregator signs of it.
async function checkSlot(known, start, seat, slot) {
  const { samples, second } = seat;
  const { terms } = known;
  need(seat.slot === slot, "it is another slot");
  need(seat.source === known.seats[slot].source, `its source is ${seat.source}, and ${known.seats[slot].source} in your roster`);
  need(seat.key === known.seats[slot].key, "its key is not the one in your roster");
  const out = new Fields();
  if (seat.signature === null) {
    need(seat.price === null && seat.abstains === null && seat.timestamp_us === null, "an answer without a signature");
    need(second === null && samples.length === 0, "samples without an answer");
    return out.zeros(2 * NO_ANSWER + 32).number(0, 4).done();
  }
  need(samples.length === terms.samples, "samples are missing");
  const records = new Fields();
  samples.forEach((sample, index) => addRecord(records, index, sample, known));
  const digest = await new Fields("samples").raw(records.done()).digest();
  const first = await checkAnswer(known, slot, start, digest, seat);
  const valid = samples.flatMap((sample, index) => (sample.price === undefined ? [] : [index]));
  let timestamp = start;
  if (seat.price !== null) {
    need(valid.length * 100 >= terms.samples * 80, "it has too few samples");
    const average = mean(kept(terms.sample_rule, ascending(valid.map((index) => samples[index].price)), 0));
    need(average === seat.price, `its samples average to ${decimal(average)}`);
    timestamp += valid.at(-1) * terms.interval_us + samples[valid.at(-1)].lateness_us;
  }
  need(seat.timestamp_us === timestamp, "its timestamp is not that of its newest sample");
  out.raw(first.bytes);
  if (second === null) {
    out.zeros(32 + NO_ANSWER);
  } else {
    const other = await checkAnswer(known, slot, start, unhex(second.samples_digest, 32), second);
    need(other.signed !== first.signed, "its second answer is the first one");
    out.hex(second.samples_digest, 32).raw(other.bytes);
  }
  return out.number(samples.length, 4).raw(records.done()).done();
}

function standings(known, seats) {
  const stands = seats.map((seat) => {
    if (seat.second !== null) return "equivocated";
    if (seat.signature === null) return "silent";
    return seat.abstains === null ? "trimmed" : "abstained";
  });
  const ranked = seats.flatMap((seat, slot) => (stands[slot] === "trimmed" ? [{ slot, price: seat.price }] : []));
  ranked.sort((a, b) => a.price - b.price || a.slot - b.slot);
  const used = kept(known.terms.rule, ranked, known.f);
  for (const { slot } of used) stands[slot] = "used";
  return { stands, ranked, used };
}

function lateness(known, seats) {
  const all = ascending(seats.flatMap((seat) => seat.samples.filter((one) => one.price !== undefined).map((one) => one.lateness_us)));
  if (all.length === 0) return null;
  const spreads = [];
  for (let index = 0; index < known.terms.samples; index++) {
    const late = seats.map((seat) => seat.samples[index]).filter((one) => one?.price !== undefined).map((one) => one.lateness_us);
    if (late.length > 0) spreads.push(late.reduce((a, b) => Math.max(a, b)) - late.reduce((a, b) => Math.min(a, b)));
  }
  const middle = (sorted) => sorted[Math.floor(sorted.length / 2)];
  const sorted = ascending(spreads);
  return { median: middle(all), max: all.at(-1), spread_median: middle(sorted), spread_max: sorted.at(-1) };
}

// The age that a quorum vouches for.
function age(known, seats, stands) {
  const ages = seats.flatMap((seat, slot) => {
    const priced = seat.samples.filter((sample) => sample.price !== undefined);
    const counts = ["used", "trimmed"].includes(stands[slot]) && priced.every((sample) => sample.age_us !== undefined);
    return counts ? [priced.reduce((most, sample) => Math.max(most, sample.age_us), 0)] : [];
  });
  return ascending(ages)[known.quorum - 1] ?? null;
}

function decide(known, { price, spread, time_us }, last, policy) {
  const { spread_ppm_max: ppm } = known.terms;
  if (price === null) return "no-quorum";
  if (ppm !== null && spread > (ppm / 1_000_000) * price) return "spread-too-wide";
  if (last === null) return "published";
  const moved = Math.abs(price - last.price);
  if (policy.move_max !== null && moved > policy.move_max * last.price) return "moved-too-far";
  if (policy.deviation === null || moved >= policy.deviation * last.price) return "published";
  if (policy.heartbeat_us !== null && Math.max(0, time_us - last.time_us) >= policy.heartbeat_us) return "published";
  return "unchanged";
}

// The report as it must be, from what is signed in it, in the order of its keys.
function rewrite(known, report) {
  const { terms, f, quorum } = known;
  const seats = report.collectors;
  const { stands, ranked, used } = standings(known, seats);
  const enough = ranked.length >= quorum && new Set(ranked.map(({ slot }) => exchangeOf(seats[slot].source))).size >= terms.exchanges_min;
  const made = enough
    ? { price: mean(used.map((one) => one.price)), spread: used.at(-1).price - used[0].price,
        time_us: used.reduce((least, { slot }) => Math.min(least, seats[slot].timestamp_us), Infinity) }
    : { price: null, spread: null, time_us: null };
  const decision = decide(known, made, report.last_published, report.policy);
  const sources = known.seats.map((seat) => seat.source);
  const [exchanges, exchangesLost] = groups(sources.map(exchangeOf), f);
  const [quotes, quotesLost] = groups(sources.map((source) => foreignQuote(terms.feed, source)).filter((quote) => quote), f);
  const answer = ({ price, abstains, timestamp_us, signature }) => ({ price, abstains, timestamp_us, signature });
  const sample = (one) => Object.fromEntries(["price", "missing", "lateness_us", "age_us"].filter((key) => key in one).map((key) => [key, one[key]]));
  const last = report.last_published;
  const { deviation, heartbeat_us, move_max } = report.policy;
  return {
    rsoracle_report: 2, number: report.number, feed: terms.feed,
    price: ["published", "unchanged"].includes(decision) ? made.price : null, decision,
    time: words(made.time_us), time_us: made.time_us, age_us: age(known, seats, stands),
    embedded: sources.some(isEmbedded), spread: made.spread, prices: ranked.length,
    signatures_verified: ranked.length + stands.filter((one) => one === "abstained").length,
    faulty_collectors_tolerated: f, exchanges, faulty_exchanges_tolerated: exchangesLost,
    quote_currencies: quotes, faulty_quote_currencies_tolerated: quotesLost, lateness_us: lateness(known, seats),
    round_start_us: report.round_start_us, rule: terms.rule, sample_rule: terms.sample_rule, n: known.n, f, quorum,
    exchanges_min: terms.exchanges_min, age_us_max: terms.age_us_max, spread_ppm_max: terms.spread_ppm_max,
    samples: terms.samples, interval_us: terms.interval_us, period_us: terms.period_us,
    first_start_us: terms.first_start_us, end_us: terms.end_us, terms_digest: hex(known.digest),
    policy: { deviation, heartbeat_us, move_max },
    last_published: last && { number: last.number, price: last.price, time_us: last.time_us },
    collectors: seats.map((seat, slot) => ({
      slot, source: known.seats[slot].source, key: known.seats[slot].key, standing: stands[slot], ...answer(seat),
      second: seat.second && { samples_digest: seat.second.samples_digest, ...answer(seat.second) },
      samples: seat.samples.map(sample),
    })),
    refused: report.refused.map(({ code, count }) => ({ code, reason: REJECTS[code - 1], count })),
    previous: report.previous, aggregator_key: report.aggregator_key, ephemeral: report.ephemeral, signature: report.signature,
  };
}

// Where two values differ first, or null: the keys that lead there, what is said, and what it should be.
function difference(said, made, path = []) {
  const isNode = (value) => typeof value === "object" && value !== null;
  if (!isNode(said) || !isNode(made)) return Object.is(said, made) ? null : { path, said, made };
  for (const key of new Set([...Object.keys(made), ...Object.keys(said)])) {
    const found = difference(said[key], made[key], [...path, key]);
    if (found) return found;
  }
  return null;
}

// Checks what the aggregator signs over all.
async function checkAggregator(known, report, made, slots) {
  const { number, previous, policy, last_published: last, refused } = report;
  need(isWhole(number, 1) && (previous === null) === (number === 1), "its number or its place in the chain is wrong");
  need(last === null || (isWhole(last.number, 1, number - 1) && isPrice(last.price)), "what was published last is wrong");
  const isPart = (part) => part === null || (typeof part === "number" && part > 0 && isFinite(part));
  need(isPart(policy.deviation) && isPart(policy.move_max), "its policy is none");
  need(refused.every(({ code }, at) => isWhole(code, 1, REJECTS.length) && (at === 0 || code > refused[at - 1].code)), "its reasons are out of order");
  need(typeof report.ephemeral === "boolean", "ephemeral is true or false");
  const all = new Fields("report").number(number);
  (previous === null ? all.zeros(64) : all.hex(previous, 64)).hex(report.aggregator_key, 32).number(Number(report.ephemeral), 2);
  all.raw(known.digest).number(report.round_start_us).number(DECISIONS.indexOf(made.decision) + 1, 2);
  all.f64(made.price).f64(made.spread).numberOrNone(made.time_us);
  all.f64(policy.deviation).numberOrNone(policy.heartbeat_us).f64(policy.move_max);
  (last === null ? all.zeros(16).numberOrNone(null) : all.number(last.number).f64(last.price).number(last.time_us)).number(refused.length, 2);
  for (const { code, count } of refused) all.number(code, 2).number(count, 4);
  all.number(known.n, 2);
  for (const bytes of slots) all.raw(bytes);
  need(await isSigned(report.aggregator_key, all.done(), report.signature), "the aggregator's signature does not check");
}

const TERMS = ["feed", "rule", "sample_rule", "exchanges_min", "age_us_max", "spread_ppm_max", "samples", "interval_us", "period_us", "first_start_us", "end_us"];

// The terms by which a report is checked: those of the roster, or without one its own.
async function termsFor(report, roster, wrong) {
  if (!roster) {
    const own = Object.fromEntries(TERMS.map((key) => [key, report[key]]));
    const known = await settle(own, report.collectors.map(({ key, source }) => ({ key, source })));
    if (hex(known.digest) !== report.terms_digest) wrong.push("terms_digest is not that of its terms, keys and sources");
    // So that another key or source costs its own slot only.
    return { ...known, digest: unhex(report.terms_digest, 32) };
  }
  const known = roster.feeds.get(report.feed);
  need(known, `your roster has no feed ${report.feed}`);
  need(report.round_start_us >= roster.fromUs, "your roster counts for later rounds only");
  for (const key of TERMS) {
    if (report[key] !== known.terms[key]) wrong.push(`${key} is ${write(report[key])}, and ${write(known.terms[key])} in your roster`);
  }
  need(report.collectors.length === known.n, `it has ${report.collectors.length} collectors, and your roster ${known.n}`);
  return known;
}

// Checks a line. `slots` has null for each slot that is right, what is wrong, or undefined if it was not checked; `wrong` is what else is
// wrong. The verdict is:
// "proved": all was checked, and the keys are those of the roster; "consistent": all was checked, whose keys these are is not
// known; "unsigned": by the roster, but no collector signed anything in it; "wrong". `asked` is the feed that the line was asked for, since
// a report of another feed is as valid.
async function checkLine(line, roster, nowUs, asked) {
  const result = { report: null, slots: [], wrong: [], verdict: "wrong" };
  const { wrong } = result;
  const attempt = (say, check) =>
    check().catch((error) => {
      // What is malformed in another way ends in an error of the browser.
      say(error instanceof Wrong ? error.message : "it has not the form of a report");
    });
  await attempt((what) => wrong.push(what), async () => {
    const report = JSON.parse(line);
    need(report.rsoracle_report === 2 && Array.isArray(report.collectors), "it is no report of this protocol");
    need(report.feed === asked, `it is a report of ${report.feed}`);
    result.report = report;
    result.slots = report.collectors.map(() => undefined);
    const known = await termsFor(report, roster, wrong);
    const start = report.round_start_us;
    need(isWhole(start) && isStart(known.terms, start), "no round starts then");
    need(start <= nowUs + FUTURE_US_MAX, "it is from the future, by the clock of this device");
    const held = known.seats.map((seat) => seat.key).filter((key) => key);
    need(new Set(held).size === held.length, "two slots have the same key");
    const slots = [];
    for (const [slot, seat] of report.collectors.entries()) {
      await attempt((what) => (result.slots[slot] = what), async () => {
        slots.push(await checkSlot(known, start, seat, slot));
        result.slots[slot] = null;
      });
    }
    if (wrong.length > 0 || result.slots.some((one) => one !== null)) return;
    const made = rewrite(known, report);
    const found = difference(report, made);
    if (found) {
      const { path, said } = found;
      const what = `${path.join(".")} is ${JSON.stringify(said) ?? "missing"}, and samples and signatures make ${JSON.stringify(found.made) ?? "none of it"}`;
      if (path[0] === "collectors" && path.length > 1) result.slots[path[1]] = what;
      else wrong.push(what);
      return;
    }
    need(write(made) === line, "it is not spelled as a report is");
    await checkAggregator(known, report, made, slots);
    const signed = report.collectors.some((seat) => seat.signature !== null);
    result.verdict = !roster ? "consistent" : signed ? "proved" : "unsigned";
  });
  return result;
}

// What is wrong between two reports of which one comes before the other, or null. Their starts are compared where they are received.
function chainBreak(before, report) {
  const last = before.decision === "published" ? { number: before.number, price: before.price, time_us: before.time_us } : before.last_published;
  if (report.aggregator_key !== before.aggregator_key) return "the aggregator's key has changed";
  if (report.number !== before.number + 1) return null;
  if (report.previous !== before.signature) return "it does not continue the report before it";
  return difference(report.last_published, last) ? "it says something else of the price before it" : null;
}
