// Reads a roster: the strict part of TOML that docs/PROTOCOL.md describes.

const FEED_KEYS = ["rule", "sample_rule", "min_exchanges", "max_age", "max_spread", "samples", "interval", "period", "first_start", "end"];
const UNITS_US = { us: 1, ms: 1e3, s: 1e6, m: 60e6, h: 3600e6 };
const RULES = { "trimmed-mean": 1, median: 2, mean: 3 };
const ROSTER_BYTES_MAX = 1024 * 1024;

const isName = (text, most) => typeof text === "string" && text.length <= most && /^[!#-[\]-~]+$/.test(text);
const isFeed = (text) => isName(text, 16) && !text.includes(",");
const isSource = (text) => isName(text, 32) && /^[^:]+:./.test(text);

// A text in quotes at the beginning, and what follows it.
function readText(from) {
  const match = /^"((?:[^"\\]|\\["\\nt])*)"[ \t]*(.*)$/.exec(from);
  need(match, `text in double quotes is expected, not ${from}`);
  const escapes = { n: "\n", t: "\t" };
  return [match[1].replace(/\\(.)/g, (_, escaped) => escapes[escaped] ?? escaped), match[2]];
}

// A value that takes up the rest of a line, except for a comment.
function readValue(from) {
  let value, rest;
  if (from.startsWith('"')) {
    [value, rest] = readText(from);
  } else if (from.startsWith("[")) {
    [value, rest] = [[], from.slice(1).trimStart()];
    while (!rest.startsWith("]")) {
      let one;
      [one, rest] = readText(rest);
      value.push(one);
      need(/^[,\]]/.test(rest), "a comma or ] is expected");
      if (rest.startsWith(",")) rest = rest.slice(1).trimStart();
    }
    rest = rest.slice(1);
  } else {
    const match = /^(0|[1-9][0-9]{0,15})(?![0-9])(.*)$/.exec(from);
    need(match, `${from} is no value`);
    [value, rest] = [Number(match[1]), match[2]];
  }
  need(/^[ \t]*(#.*)?$/.test(rest), `${rest} follows the value`);
  return value;
}

// The sections of a file, each with its keys. The first is that before any header.
function readSections(text) {
  const sections = [{ name: "", keys: new Map() }];
  text.split("\n").forEach((whole, at) => {
    const line = whole.replace(/\r$/, "").replace(/^[ \t]+/, "");
    if (line === "" || line.startsWith("#")) return;
    try {
      const header = /^\[((?:[A-Za-z0-9_-]+)(?:\.(?:[A-Za-z0-9_-]+|"[^"\\]*"))*)\][ \t]*(#.*)?$/.exec(line);
      if (header) {
        need(sections.every((one) => one.name !== header[1]), `[${header[1]}] is there twice`);
        sections.push({ name: header[1], keys: new Map() });
        return;
      }
      const entry = /^([A-Za-z0-9_-]+)[ \t]*=[ \t]*(.*)$/.exec(line);
      need(entry, "neither a section nor a key with a value");
      const { keys: known } = sections.at(-1);
      need(!known.has(entry[1]), `${entry[1]} is there twice`);
      known.set(entry[1], readValue(entry[2]));
    } catch (error) {
      throw new Wrong(`line ${at + 1}: ${error.message}`);
    }
  });
  return sections;
}

function only(section, required, optional = []) {
  for (const key of required) need(section.keys.has(key), `[${section.name}] lacks ${key}`);
  for (const key of section.keys.keys()) {
    need(required.includes(key) || optional.includes(key), `[${section.name}] has a key ${key}, which is not known`);
  }
}

function durationUs(text) {
  const match = /^([0-9]{1,16})(us|ms|s|m|h)$/.exec(text);
  need(match, `${text} is no duration, as in 10s`);
  return Number(match[1]) * UNITS_US[match[2]];
}

function instantUs(text) {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(text);
  const seconds = match ? Date.parse(`${match[1]}Z`) / 1000 : NaN;
  need(isWhole(seconds) && new Date(seconds * 1000).toISOString().startsWith(match[1]), `${text} is no time, as in 2026-12-01T00:00:00Z`);
  return seconds * 1e6 + Number((match[2] ?? "").slice(0, 6).padEnd(6, "0"));
}

function millionths(text) {
  const match = /^(\d{1,3})(?:\.(\d{1,4}))?%$/.exec(text);
  need(match, `${text} is no part, as in 2%`);
  return Number(match[1]) * 10000 + Number((match[2] ?? "").padEnd(4, "0"));
}

const given = (text, read) => (text === "" ? null : read(text));

function feedOf(section) {
  const feed = /^feed\."(.*)"$/.exec(section.name)?.[1];
  need(isFeed(feed), `[${section.name}] where [feed."NAME"] or [slot.N] is expected`);
  only(section, FEED_KEYS);
  const of = (key) => section.keys.get(key);
  for (const key of FEED_KEYS) {
    need((typeof of(key) === "number") === ["min_exchanges", "samples"].includes(key), `${key} of ${feed} has a value of another kind`);
  }
  return {
    feed, rule: of("rule"), sample_rule: of("sample_rule"), exchanges_min: of("min_exchanges"),
    age_us_max: given(of("max_age"), durationUs), spread_ppm_max: given(of("max_spread"), millionths),
    samples: of("samples"), interval_us: durationUs(of("interval")), period_us: durationUs(of("period")),
    first_start_us: instantUs(of("first_start")), end_us: given(of("end"), instantUs),
  };
}

async function slotOf(section, slot, feeds) {
  need(section.name === `slot.${slot}`, `[${section.name}] where [slot.${slot}] is expected`);
  only(section, ["key", "sources"], ["signature"]);
  const [key, sources, signature] = ["key", "sources", "signature"].map((name) => section.keys.get(name));
  need(Array.isArray(sources) && sources.length === feeds, `slot ${slot} has not one source, or "", for each feed`);
  const named = sources.filter((source) => source !== "");
  need(named.length > 0 && named.every(isSource), `slot ${slot} has a source that is none`);
  need(new Set(named.map((source) => source.split(":")[0])).size === 1, `the sources of slot ${slot} are of several kinds`);
  need(typeof key === "string", `the key of slot ${slot} is no text`);
  if (key !== "") await importKey(key);
  if (signature !== undefined) {
    const seat = new Fields("seat").hex(key, 32).number(sources.length, 2);
    for (const source of sources) seat.text(source, 32);
    need(await isSigned(key, seat.done(), signature), `the signature of slot ${slot} does not check`);
  }
  return { key: key === "" ? null : key, sources };
}

// Reads the change by which a roster follows the one before it. The signatures are checked; whether enough signed is for those to know who
// trust that roster.
async function readChange([head, ...endorsements], previous, roster) {
  only(head, ["from"]);
  need(previous !== "", "it has a change, but follows no roster");
  roster.fromUs = instantUs(head.keys.get("from"));
  const change = new Fields("roster change").hex(previous, 32).hex(roster.digest, 32).number(roster.fromUs).done();
  const keys = new Set();
  for (const [at, section] of endorsements.entries()) {
    need(section.name === `endorsement.${at}`, `[${section.name}] where [endorsement.${at}] is expected`);
    only(section, ["key", "signature"]);
    const key = section.keys.get("key");
    need(!keys.has(key), `endorsement ${at} is a second one of its key`);
    keys.add(key);
    need(await isSigned(key, change, section.keys.get("signature")), `the signature of endorsement ${at} does not check`);
  }
}

// Reads a roster. Each feed has its terms, the key and source of its seats, and the digest of all that.
async function readRoster(text) {
  need(text.length <= ROSTER_BYTES_MAX, "it is longer than 1 MiB");
  const [top, ...all] = readSections(text);
  const end = all.findIndex((section) => section.name === "change");
  const [sections, change] = end < 0 ? [all, []] : [all.slice(0, end), all.slice(end)];
  only(top, ["number", "previous"]);
  need(isWhole(top.keys.get("number"), 1), "number is no whole number from 1");
  const place = sections.findIndex((section) => !section.name.startsWith("feed."));
  const count = place < 0 ? sections.length : place;
  need(count >= 1 && count <= 64, "it has no feed, or more than 64");
  const feeds = sections.slice(0, count).map(feedOf);
  const slots = [];
  for (const section of sections.slice(count)) slots.push(await slotOf(section, slots.length, count));
  need(slots.length * count <= 4096, "it has too many slots");
  const held = slots.map((slot) => slot.key).filter((key) => key);
  need(new Set(held).size === held.length, "two slots have the same key");
  const roster = { number: top.keys.get("number"), feeds: new Map(), fromUs: 0 };
  const digested = new Fields("roster").number(roster.number);
  digested.raw(given(top.keys.get("previous"), (digits) => unhex(digits, 32)) ?? new Uint8Array(32)).number(count, 2);
  for (const [at, terms] of feeds.entries()) {
    for (const key of ["samples", "interval_us", "period_us", "first_start_us", "end_us"]) {
      need(terms[key] === feeds[0][key], "its feeds have several schedules");
    }
    const seats = slots.filter((slot) => slot.sources[at] !== "").map((slot) => ({ key: slot.key, source: slot.sources[at] }));
    const known = await settle(terms, seats);
    roster.feeds.set(terms.feed, known);
    digested.raw(known.digest);
  }
  roster.digest = hex(await digested.digest());
  if (change.length > 0) await readChange(change, top.keys.get("previous"), roster);
  return roster;
}
