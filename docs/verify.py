#!/usr/bin/env python3
"""Checks one report of rsoracle (a line that `rsoracle run --json` prints), one proof of a lie or one change of keys, by the rules of
docs/PROTOCOL.md alone: pip install cryptography; python3 verify.py FILE [ROSTER…] (- is standard input; a roster file needs Python 3.11).
The first roster is trusted. Each further one must follow the one before it, and counts from its time on.

It is an example for other languages; `rsoracle verify` does more. This program follows no chain, takes the aggregator's word for whether
a price is published, except for the greatest spread, and checks neither the summary fields nor, except for numbers, the form of the line.
"""
import hashlib, json, re, struct, sys, time
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

RULES = {"trimmed-mean": 1, "median": 2, "mean": 3}
DECISIONS = {"published": 1, "unchanged": 2, "no-quorum": 3, "moved-too-far": 4, "spread-too-wide": 5}
ABSTENTIONS = ["fewer than 80 % of the samples are valid", "the system clock was stepped within the round",
               "the exchange lives, and says no price that is young enough"]
MISSES = ["no connection to the exchange", "no reply in time", "the connection ended before the reply",
          "a message larger than 64 KiB", "the reply is not JSON", "the reply lacks a field or has one of another type",
          "the reply has another id", "the reply has another symbol", "the price is no decimal number",
          "the price is zero, negative or absurd", "the exchange answered with an error",
          "the exchange limits or bans this address", "the instant had passed", "the system clock was stepped",
          "the newest price is too old, or none has come",
          "the best bid is above the best ask", "the best bid and the best ask are more than 2 % apart"]
NEVER, NO_ANSWERS, P = b"\xff" * 8, 80 + 32 + 80, 2**255 - 19
D = -121665 * pow(121666, -1, P) % P  # of the curve -x² + y² = 1 + D x² y²

def need(condition, what):
    if not condition: raise ValueError(what)
def once(pairs):
    need(len(dict(pairs)) == len(pairs), "a key stands twice")
    return dict(pairs)
def decimal(text):  # Python's repr has the right digits, but exponents for very small and very large numbers
    need(text == format(Decimal(repr(float(text))), "f").removesuffix(".0"), f"{text} is not the text of its number")
    return float(text)

# What stands in the line, as fields of what is signed.
def number(value, width=8):
    need(type(value) is int and 0 <= value < min(2**53, 256**width), f"{value!r} is no number of {width} bytes")
    return value.to_bytes(width, "big")
def f64(value, least=0.0, greatest=sys.float_info.max):
    need(type(value) in (int, float) and least <= value <= greatest, f"{value!r} is no price or part")
    return struct.pack(">d", value if type(value) is float else decimal(str(value)))
def data(value, width):
    need(re.fullmatch(f"[0-9a-f]{{{2 * width}}}", value), f"{value!r} is not {width} bytes")
    return bytes.fromhex(value)
def text(value, width):
    need(re.fullmatch(rf"[!#-\[\]-~]{{1,{width}}}", value), f"{value!r} is no name")
    return value.encode().ljust(width, b"\0")
def feed_name(value):
    need("," not in value, f"the feed {value!r} has a comma in its name")
    return text(value, 16)
def source(value):
    need(re.fullmatch("[^:]+:.+", value), f"{value!r} is no KIND:SYMBOL")
    return text(value, 32)
price, part = lambda value: f64(value, 1e-12, 1e15), lambda value: f64(value, 5e-324)
context = lambda name: f"rsoracle 2 {name}".encode().ljust(32, b"\0")
maybe = lambda value, field, none=bytes(8): none if value is None else field(value)
digest = lambda message: hashlib.sha512(message).digest()[:32]
exchange = lambda source: re.sub("-(book|stream)$", "", source.split(":")[0])

# Keys and signatures.
def small_order(point):  # y = ±1: of order 1 or 2; 0: of order 4; the zeros of the last factor: of order 8
    y = int.from_bytes(point, "little") % 2**255
    return y * (y * y - 1) * (D * y**4 + 2 * y * y - 1) % P == 0
def key(value):
    y = int.from_bytes(data(value, 32), "little") % 2**255
    need(y < P and not small_order(data(value, 32)), f"anyone could sign for the key {value}")
    need(pow((y * y - 1) * pow(D * y * y + 1, -1, P), (P - 1) // 2, P) == 1, f"the key {value} is no point")  # x² is a square
    return data(value, 32)
def check_signature(public, message, signature, who):
    try:  # by OpenSSL, which refuses an S of L or more, and compares R byte for byte
        need(not small_order(signature[:32]), "R is of small order")
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except Exception as error:
        raise ValueError(f"{who}: the signature does not check ({error!r})") from None

# Prices, samples, answers.
def kept(rule, ascending, f):
    cut = {"trimmed-mean": f, "median": max(len(ascending) - 1, 0) // 2, "mean": 0}[rule]
    return ascending[cut:len(ascending) - cut] if len(ascending) > 2 * cut else []
def mean(ascending):  # not by sum(), which compensates rounding since Python 3.12
    total = 0.0
    for one in ascending:
        total += one
    return min(max(total / len(ascending), ascending[0]), ascending[-1])
def record(index, sample, late_max, age_max):
    priced, late, age = "price" in sample, sample.get("lateness_us"), sample.get("age_us")
    sound = late is not None and late <= late_max if priced else age is None
    need(age is None or age_max is None or age <= age_max, f"a sample is older than the terms allow: {sample!r}")
    need(sound and priced != ("missing" in sample), f"a sample contradicts itself: {sample!r}")
    head = number(index, 4) + number(0 if priced else MISSES.index(sample["missing"]) + 1, 2) + bytes(2)
    return head + maybe(sample.get("price"), price) + maybe(late, number, NEVER) + maybe(age, number, NEVER)
def observation(of):
    need((of["price"] is None) != (of["abstains"] is None), "both a price and an abstention, or neither")
    bits = price(of["price"]) if of["abstains"] is None else struct.pack(">Q", 0x7FF8 << 48 | ABSTENTIONS.index(of["abstains"]) + 1)
    return bits + number(of["timestamp_us"]) + data(of["signature"], 64)

def observed(terms, slot, start, samples_digest):  # what an observation signs, up to its answer
    return context("observation") + terms + number(slot, 2) + number(start) + samples_digest

def check_schedule(terms):  # returns from a round's start: its last instant, and how late a sample may be asked for
    samples, interval, period, first, end = (terms[k] for k in ("samples", "interval_us", "period_us", "first_start_us", "end_us"))
    need(1 <= samples <= 1000 and 20_000 <= interval <= 3_600_000_000, "samples or interval out of bounds")
    need(period == 0 or 100_000 <= period <= 86_400_000_000, "period out of bounds")
    last, clear = (samples - 1) * interval, min(max(period // 20, 5_000), 100_000)
    closing = min(1_500_000, period - clear - last) if period else 1_500_000
    need(last <= 86_400_000_000 and closing >= 20_000 and (end is None or first < end), "the schedule does not close")
    return last, min(interval // 2, min(closing - max(closing // 4, 10_000), 1_000_000) // 2)
def is_start(terms, start):
    after, period, end = start - terms["first_start_us"], terms["period_us"], terms["end_us"]
    return after >= 0 and (after % period == 0 if period else after == 0) and (end is None or start < end)

def terms_digest(terms, seats):  # seats: key and source of each slot
    f_max = {"trimmed-mean": (len(seats) - 1) // 3, "median": (len(seats) - 1) // 3, "mean": 0}[terms["rule"]]
    message = context("terms") + feed_name(terms["feed"]) + number(RULES[terms["rule"]], 2)
    message += number({"median": 2, "mean": 3}[terms["sample_rule"]], 2) + number(terms["exchanges_min"], 2)
    message += maybe(terms["age_us_max"], number, NEVER) + maybe(terms["spread_ppm_max"], lambda ppm: number(ppm, 4), NEVER[4:])
    message += number(terms["samples"], 4) + number(terms["interval_us"]) + number(terms["period_us"])
    message += number(terms["first_start_us"]) + maybe(terms["end_us"], number, NEVER) + number(len(seats), 2)
    seated = b"".join(maybe(key_of, key, bytes(32)) + source(name) for key_of, name in seats)
    return digest(message + seated), f_max, max(2 * f_max + 1, len(seats) // 2 + 1)

FEED_KEYS = {"rule", "sample_rule", "min_exchanges", "max_age", "max_spread", "samples", "interval", "period", "first_start", "end"}

def instant(value):
    need(value.endswith("Z"), f"{value!r} is no time in UTC")
    return (datetime.fromisoformat(value) - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)

def read_roster(path):  # a roster file; of each of its feeds: its terms, under the names that a report has, and key and source of its seats
    import tomllib  # newer than the rest
    units = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
    def duration(value):
        digits, unit = re.fullmatch("([0-9]+)(us|ms|s|m|h)", value).groups()
        return int(digits) * units[unit]
    given = lambda value, read: read(value) if value else None
    schedule = lambda of: {"samples": of["samples"], "interval_us": duration(of["interval"]), "period_us": duration(of["period"]),
                           "first_start_us": instant(of["first_start"]), "end_us": given(of["end"], instant)}
    with open(path, "rb") as file: roster = tomllib.load(file)
    feeds, slots = list(roster["feed"].items()), [roster["slot"][str(slot)] for slot in range(len(roster["slot"]))]
    need(set(roster) - {"change", "endorsement"} == {"number", "previous", "feed", "slot"} and all(set(of) == FEED_KEYS for _, of in feeds)
         and all(set(slot) - {"signature"} == {"key", "sources"} for slot in slots), "the roster lacks some of its keys, or has others")
    need(len(feeds) <= 64 and len(feeds) * len(slots) <= 4096, "the roster has too many feeds or slots")
    need(all(schedule(of) == schedule(feeds[0][1]) for _, of in feeds), "the feeds of the roster have several schedules")
    keys = [slot["key"] for slot in slots if slot["key"]]
    need(len(keys) == len(set(keys)), "two slots of the roster have the same key")
    for seat in slots:
        kinds = {name.split(":")[0] for name in seat["sources"] if name}
        need(len(seat["sources"]) == len(feeds) and len(kinds) == 1, "a slot has not one source or \"\" for each feed, of one kind")
        if "signature" not in seat: continue
        message = context("seat") + key(seat["key"]) + number(len(seat["sources"]), 2)
        message += b"".join(source(name) if name else bytes(32) for name in seat["sources"])
        check_signature(key(seat["key"]), message, data(seat["signature"], 64), "a seat of the roster")
    def terms(feed, of):
        return {"feed": feed, "rule": of["rule"], "sample_rule": of["sample_rule"], "exchanges_min": of["min_exchanges"],
                "age_us_max": given(of["max_age"], duration), **schedule(of),
                "spread_ppm_max": given(of["max_spread"], lambda value: int(Decimal(value.removesuffix("%")) * 10_000))}
    seats = lambda at: [(slot["key"] or None, slot["sources"][at]) for slot in slots if slot["sources"][at]]
    read = {feed: (terms(feed, of), seats(at)) for at, (feed, of) in enumerate(feeds)}
    for known, seated in read.values():
        terms_digest(known, seated)  # refuses what has no place in it
        need(1 <= known["exchanges_min"] <= len({exchange(name) for _, name in seated}), f"{known['feed']} has too few exchanges")
    return roster, read

def follow(paths):  # of each roster, of which each must follow the one before it: from when on it counts, and its feeds
    followed, old, old_digest, old_keys = [], None, None, None
    for path in paths:
        roster, read = read_roster(path)
        keys = [slot["key"] for slot in roster["slot"].values()]
        previous = maybe(roster["previous"] or None, lambda value: data(value, 32), bytes(32))
        of_feed = {feed: terms_digest(*of)[0] for feed, of in read.items()}
        new_digest = digest(context("roster") + number(roster["number"]) + previous + number(len(of_feed), 2) + b"".join(of_feed.values()))
        change, endorsements, since, signed = roster.get("change"), roster.get("endorsement", {}), 0, set()
        if change is not None:
            need(set(change) == {"from"} and roster["previous"], f"{path}: [change] is not valid")
            since = instant(change["from"])
        need(list(endorsements) == [str(at) for at in range(len(endorsements))] and (change is not None or not endorsements), f"{path} has odd endorsements")
        for one in endorsements.values():
            need(set(one) == {"key", "signature"} and one["key"] not in signed, "an endorsement twice, or with other keys")
            check_signature(key(one["key"]), context("roster change") + previous + new_digest + number(since), data(one["signature"], 64), path)
            signed.add(one["key"])
        if old is not None:
            need(roster["number"] == old["number"] + 1 and previous == old_digest and change is not None, f"{path} does not follow the roster before it")
            need(since > followed[-1][0], f"{path} counts before the roster before it does")
            changed = [(terms, seats) for terms, seats in followed[-1][1].values() if terms_digest(terms, seats)[0] not in of_feed.values()]
            groups = [(old_keys, (len(old_keys) - 1) // 3)] + [([one for one, _ in seats], terms_digest(terms, seats)[1]) for terms, seats in changed]
            need(all(len(signed & set(of)) > (len(of) + f) // 2 for of, f in groups), f"too few collectors endorsed {path}")
            need(signed >= set(keys) - (set(old_keys) - {""}), f"a new key did not endorse {path}")
        followed.append((since, read))
        old, old_digest, old_keys = roster, new_digest, keys
    return followed

def check_slot(report, terms, slot, seat, last, late_max):
    who, start, count, interval = f"collector {slot}", *(report[k] for k in ("round_start_us", "samples", "interval_us"))
    samples, second = seat["samples"], seat["second"]
    need(seat["slot"] == slot and len(samples) <= count, f"{who}: another slot, or too many samples")
    records = b"".join(record(index, sample, late_max, report["age_us_max"]) for index, sample in enumerate(samples))
    if seat["price"] is seat["abstains"] is seat["timestamp_us"] is seat["signature"] is None:
        need(second is None and samples == [], f"{who}: a second answer or samples without an answer")
        return bytes(NO_ANSWERS) + number(0, 4)
    need(len(samples) == count, f"{who}: samples are missing")
    answers = [(digest(context("samples") + records), observation(seat))]
    if second is not None: answers.append((data(second["samples_digest"], 32), observation(second)))
    for samples_digest, answer in answers:
        check_signature(key(seat["key"]), observed(terms, slot, start, samples_digest) + answer[:16], answer[16:], who)
    # One key has many signatures over the same bytes: only other samples, another average or timestamp are another answer.
    need(len({samples_digest + answer[:16] for samples_digest, answer in answers}) == len(answers), f"{who}: one answer twice")
    valid, expected = [index for index, sample in enumerate(samples) if "price" in sample], start
    if seat["price"] is not None:
        need(len(valid) * 100 >= count * 80, f"{who}: too few samples")
        average = mean(kept(report["sample_rule"], sorted(float(samples[index]["price"]) for index in valid), 0))
        need(f64(average) == answers[0][1][:8], f"{who}: its samples average to {average}")
        expected = start + valid[-1] * interval + samples[valid[-1]]["lateness_us"]
    need(seat["timestamp_us"] == expected, f"{who}: not the timestamp of its newest sample")
    both = answers[0][1] + (answers[1][0] + answers[1][1] if second is not None else b"")
    return both.ljust(NO_ANSWERS, b"\0") + number(len(samples), 4) + records

def check_proof(proof, rosters):
    need(proof["rsoracle_proof"] == 2, "it is no proof")
    seats = [known for _, read in rosters for _, seats in read.values() for known, _ in seats]
    need(not rosters or proof["key"] in seats, "its key is not in the roster")
    messages = []
    for answer in (proof["first"], proof["second"]):
        terms, samples, said = data(proof["terms_digest"], 32), data(answer["samples_digest"], 32), observation(answer)
        messages.append(observed(terms, proof["slot"], proof["round_start_us"], samples) + said[:16])
        check_signature(key(proof["key"]), messages[-1], said[16:], "the collector")
    need(messages[0] != messages[1], "both answers are the same: a duplicate, which proves nothing")

def check_change(change, rosters):
    need(change["rsoracle_key_change"] == 2 and change["old"] != change["new"], "it is no change of keys")
    need(not rosters or any(change["feed"] in read for _, read in rosters), "the roster has no such feed")
    message = context("key change") + feed_name(change["feed"]) + key(change["old"]) + key(change["new"]) + data(change["previous"], 64)
    for which in ("old", "new"): check_signature(key(change[which]), message, data(change[f"{which}_signature"], 64), f"the {which} key")

def check(report, rosters):
    names = ("n", "f", "quorum", "round_start_us", "rule", "collectors", "decision", "spread_ppm_max")
    n, f, quorum, start, rule, seats, decision, spread_ppm_max = (report[name] for name in names)
    need(report["rsoracle_report"] == 2 and 1 <= len(seats) == n <= 4096 and (spread_ppm_max or 0) <= 1_000_000, "it is no report")
    need(start <= time.time() * 1e6 + 5e6, "the start is out of bounds: in the future")
    (last, late_max), seated = check_schedule(report), [(seat["key"], seat["source"]) for seat in seats]
    need(is_start(report, start), "no round starts then")
    need(len({seat["key"] or seat["slot"] for seat in seats}) == n, "two slots have the same key")
    terms, f_made, quorum_made = terms_digest(report, seated)
    need((f, quorum) == (f_made, quorum_made), f"f and quorum are {f_made} and {quorum_made}")
    if rosters:
        need(rosters[0][0] <= start, "the roster counts later")
        feeds = [read for since, read in rosters if since <= start][-1]
        need(report["feed"] in feeds, f"feed is {report['feed']!r}, which is not in the roster")
        trusted, known = feeds[report["feed"]]
        for name, value in trusted.items(): need(report[name] == value, f"{name} is {report[name]!r}, and {value!r} in the roster")
        need(seated == known and terms == terms_digest(trusted, known)[0], "keys or sources are not those of the roster")
    slots = b"".join(check_slot(report, terms, slot, seat, last, late_max) for slot, seat in enumerate(seats))
    need(1 <= report["exchanges_min"] <= len({exchange(seat["source"]) for seat in seats}), "there are fewer exchanges")
    standings = ["equivocated" if seat["second"] is not None else "silent" if seat["signature"] is None else
                 "used" if seat["abstains"] is None else "abstained" for seat in seats]
    ranked = sorted((float(seats[slot]["price"]), slot) for slot in range(n) if standings[slot] == "used")
    used, shown, spread, at = kept(rule, ranked, f), None, None, None
    for _, slot in set(ranked) - set(used): standings[slot] = "trimmed"
    exchanges = {exchange(seats[slot]["source"]) for _, slot in ranked}
    if len(ranked) >= quorum and len(exchanges) >= report["exchanges_min"]:
        made = mean([one for one, _ in used])
        spread, at = used[-1][0] - used[0][0], min(seats[slot]["timestamp_us"] for _, slot in used)
        shown = made if decision in ("published", "unchanged") else None
        wide = spread_ppm_max is not None and spread > spread_ppm_max / 1e6 * made
        need((decision == "spread-too-wide") == wide, f"the spread is {spread}")
    made = {"price": shown, "time_us": at, "spread": spread, "prices": len(ranked), "terms_digest": terms.hex(),
            "signatures_verified": len(ranked) + standings.count("abstained"), "faulty_collectors_tolerated": f,
            "embedded": any(exchange(seat["source"]).split("-")[0] == "embedded" for seat in seats)}
    for name, expected in made.items():
        need(report[name] == expected, f"{name} is {report[name]!r}, but samples and signatures make {expected!r}")
    need((decision == "no-quorum") == (at is None), "it has a price without a quorum, or none with one")
    need([seat["standing"] for seat in seats] == standings, f"the collectors stand as {standings}")
    published, policy, refused = report["last_published"], report["policy"], report["refused"]
    need(0 < report["number"] and (published is None or 0 < published["number"] < report["number"]), "the numbers are out of order")
    codes = [one["code"] for one in refused]
    need(codes == sorted(set(codes) & set(range(1, 32))), f"{codes} are no codes of reasons, each once, in order")
    message = context("report") + number(report["number"]) + maybe(report["previous"], lambda value: data(value, 64), bytes(64))
    message += key(report["aggregator_key"]) + number({False: 0, True: 1}[report["ephemeral"]], 2) + terms + number(start)
    message += number(DECISIONS[decision], 2) + maybe(shown, price) + maybe(spread, f64) + maybe(at, number, NEVER)
    message += maybe(policy["deviation"], part) + maybe(policy["heartbeat_us"], number, NEVER) + maybe(policy["move_max"], part)
    message += bytes(16) + NEVER if published is None else number(published["number"]) + price(published["price"]) + number(published["time_us"])
    message += number(len(refused), 2) + b"".join(number(one["code"], 2) + number(one["count"], 4) for one in refused)
    check_signature(key(report["aggregator_key"]), message + number(n, 2) + slots, data(report["signature"], 64), "aggregator")
    return standings

if len(sys.argv) < 2: sys.exit("usage: python3 verify.py FILE [ROSTER…] (- is standard input)")
try:
    rosters = follow(sys.argv[2:])
    report = json.loads((sys.stdin if sys.argv[1] == "-" else open(sys.argv[1], encoding="utf-8")).read(), object_pairs_hook=once, parse_float=decimal)
    if "rsoracle_proof" in report:
        check_proof(report, rosters)
        print(f"the holder of the key {report['key']} signed two different answers for the round {report['round_start_us']}")
    elif "rsoracle_key_change" in report:
        check_change(report, rosters)
        rosters = print(f"in the chain of {report['feed']}, the key {report['old']} hands over to {report['new']}")
    else:
        for seat, standing in zip(report["collectors"], check(report, rosters)):
            print(f"collector {seat['slot']}: {standing}, {seat['source']}, key {seat['key']}; samples, average and signature check")
        print(f"aggregator: key {report['aggregator_key']}; signature, terms and round {report['round_start_us']} check")
        print(f"price of {report['feed']}: {report['price']}, recomputed bit for bit.")
    print("Whose these keys are is not checked." if not rosters else "They are those of the roster.")
except Exception as wrong:
    sys.exit(f"REFUSED: {wrong!r}")
