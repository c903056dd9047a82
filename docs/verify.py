#!/usr/bin/env python3
"""Checks one report of rsoracle (the line that `rsoracle run --json` prints) or one proof of a lie, by the rules of docs/PROTOCOL.md
alone: pip install cryptography; python3 verify.py FILE (- reads standard input).

It is an example for other languages; `rsoracle verify` does more. This program has no roster (it prints the keys instead), follows no
chain, takes the aggregator's word for whether a price is published, and checks neither the summary fields nor, except for numbers, the
form of the line.
"""
import hashlib, json, re, struct, sys, time
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
          "the exchange limits or bans this address", "the instant had passed", "the system clock was stepped", "the newest price is too old, or none has come",
          "the best bid is above the best ask", "the best bid and the best ask are more than 2 % apart"]
NEVER, P = b"\xff" * 8, 2**255 - 19
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
    need(re.fullmatch(f"[!-~]{{1,{width}}}", value), f"{value!r} is no name")
    return value.encode().ljust(width, b"\0")
price, part = lambda value: f64(value, 1e-12, 1e15), lambda value: f64(value, 5e-324)
context = lambda name: f"rsoracle v1 {name}".encode().ljust(32, b"\0")
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
def record(index, sample, late_max):
    priced, late, age = "price" in sample, sample.get("lateness_us"), sample.get("age_us")
    sound = late is not None and late <= late_max if priced else age is None
    need(sound and priced != ("missing" in sample), f"a sample contradicts itself: {sample!r}")
    head = number(index, 4) + number(0 if priced else MISSES.index(sample["missing"]) + 1, 2) + bytes(2)
    return head + maybe(sample.get("price"), price) + maybe(late, number, NEVER) + maybe(age, number, NEVER)
def observation(of):
    need((of["price"] is None) != (of["abstains"] is None), "both a price and an abstention, or neither")
    bits = price(of["price"]) if of["abstains"] is None else struct.pack(">Q", 0x7FF8 << 48 | ABSTENTIONS.index(of["abstains"]) + 1)
    return bits + number(of["timestamp_us"]) + data(of["signature"], 64)

def observed(of, terms, slot, source, samples_digest):  # what an observation signs, up to its answer
    message = context("observation") + terms + number(slot, 2) + text(of["feed"], 16) + text(source, 32)
    return message + number(of["round_start_us"]) + number(of["samples"], 4) + number(of["interval_us"]) + samples_digest

def check_slot(report, terms, slot, seat):
    who, start, count, interval = f"collector {slot}", *(report[k] for k in ("round_start_us", "samples", "interval_us"))
    samples, late_max = seat["samples"], min(interval // 2, 500_000)
    need(seat["slot"] == slot and len(samples) <= count, f"{who}: another slot, or too many samples")
    records = b"".join(record(index, sample, late_max) for index, sample in enumerate(samples))
    silent = seat["price"] is seat["abstains"] is seat["timestamp_us"] is seat["signature"] is seat["second"] is None
    answers = [] if silent else [observation(answer) for answer in (seat, seat["second"]) if answer is not None]
    message = observed(report, terms, slot, seat["source"], digest(context("samples") + records))
    for answer in answers:
        late = int.from_bytes(answer[8:16], "big") - start - (count - 1) * interval
        need(-(count - 1) * interval <= late <= late_max, f"{who}: the timestamp lies outside the round")
        check_signature(key(seat["key"]), message + answer[:16], answer[16:], who)
    # One key has many signatures over the same bytes: only another average or timestamp is another answer.
    distinct = len({answer[:16] for answer in answers}) == len(answers)
    need(silent or len(samples) == count and distinct, f"{who}: samples are missing, or one answer twice")
    valid, expected = [index for index, sample in enumerate(samples) if "price" in sample], start
    if seat["price"] is not None:
        need(len(valid) * 100 >= count * 80, f"{who}: too few samples")
        average = mean(kept(report["sample_rule"], sorted(float(samples[index]["price"]) for index in valid), 0))
        need(f64(average) == answers[0][:8], f"{who}: its samples average to {average}")
        expected = start + valid[-1] * interval + samples[valid[-1]]["lateness_us"]
    need(silent or seat["timestamp_us"] == expected, f"{who}: not the timestamp of its newest sample")
    return b"".join(answers).ljust(160, b"\0") + number(len(samples), 4) + records

def check_proof(proof):
    need(proof["rsoracle_proof"] == 1, "it is no proof")
    messages = []
    for answer in (proof["first"], proof["second"]):
        terms, samples, said = data(proof["terms_digest"], 32), data(answer["samples_digest"], 32), observation(answer)
        messages.append(observed(proof, terms, proof["slot"], proof["source"], samples) + said[:16])
        check_signature(key(proof["key"]), messages[-1], said[16:], "the collector")
    need(messages[0] != messages[1], "both answers are the same: a duplicate, which proves nothing")

def check(report):
    names = ("n", "f", "quorum", "samples", "interval_us", "round_start_us", "rule", "sample_rule", "collectors", "decision")
    n, f, quorum, samples, interval, start, rule, sample_rule, seats, decision = (report[name] for name in names)
    need(report["rsoracle_report"] == 1 and len(seats) == n <= 4096 and 1 <= samples <= 1000, "it is no report")
    need(f <= (0 if rule == "mean" else (n - 1) // 3) and max(2 * f + 1, n // 2 + 1) <= quorum <= n, "f or quorum cannot hold")
    need(20_000 <= interval <= 3_600_000_000 and start <= time.time() * 1e6 + 5e6, "interval or start out of bounds")
    need(len({seat["key"] or seat["slot"] for seat in seats}) == n, "two slots have the same key")
    message = context("terms") + key(report["aggregator_key"]) + data(report["session"], 32) + text(report["feed"], 16)
    message += b"".join(number(two, 2) for two in (RULES[rule], {"median": 2, "mean": 3}[sample_rule], n, f, quorum, report["exchanges_min"]))
    message += number(samples, 4) + number(interval)
    terms = digest(message + b"".join(maybe(seat["key"], key, bytes(32)) + text(seat["source"], 32) for seat in seats))
    slots = b"".join(check_slot(report, terms, slot, seat) for slot, seat in enumerate(seats))
    standings = ["equivocated" if seat["second"] is not None else "silent" if seat["signature"] is None else
                 "used" if seat["abstains"] is None else "abstained" for seat in seats]
    ranked = sorted((float(seats[slot]["price"]), slot) for slot in range(n) if standings[slot] == "used")
    used, shown, spread, at = kept(rule, ranked, f), None, None, None
    for _, slot in set(ranked) - set(used): standings[slot] = "trimmed"
    exchanges = {exchange(seats[slot]["source"]) for _, slot in ranked}
    if len(ranked) >= quorum and len(exchanges) >= report["exchanges_min"]:
        shown = mean([one for one, _ in used]) if decision in ("published", "unchanged") else None
        spread, at = used[-1][0] - used[0][0], min(seats[slot]["timestamp_us"] for _, slot in used)
    made = {"price": shown, "time_us": at, "spread": spread, "prices": len(ranked), "terms_digest": terms.hex(),
            "signatures_verified": len(ranked) + standings.count("abstained"), "faulty_collectors_tolerated": f,
            "embedded": any(exchange(seat["source"]).split("-")[0] == "embedded" for seat in seats)}
    for name, expected in made.items():
        need(report[name] == expected, f"{name} is {report[name]!r}, but samples and signatures make {expected!r}")
    need((decision == "no-quorum") == (at is None), "it has a price without a quorum, or none with one")
    need([seat["standing"] for seat in seats] == standings, f"the collectors stand as {standings}")
    last, policy, refused = report["last_published"], report["policy"], report["refused"]
    message = context("report") + number(report["number"]) + maybe(report["previous"], lambda value: data(value, 64), bytes(64))
    message += key(report["aggregator_key"]) + number({False: 0, True: 1}[report["ephemeral"]], 2) + terms + number(start)
    message += number(DECISIONS[decision], 2) + maybe(shown, price) + maybe(spread, f64) + maybe(at, number, NEVER)
    message += maybe(policy["deviation"], part) + maybe(policy["heartbeat_us"], number, NEVER)
    message += maybe(policy["move_max"], part) + maybe(policy["spread_max"], part)
    message += number(last["number"]) + price(last["price"]) + number(last["time_us"]) if last is not None else bytes(16) + NEVER
    message += number(len(refused), 2) + b"".join(number(one["code"], 2) + number(one["count"], 4) for one in refused)
    check_signature(key(report["aggregator_key"]), message + number(n, 2) + slots, data(report["signature"], 64), "aggregator")
    return standings

try:
    report = json.loads((sys.stdin if sys.argv[1] == "-" else open(sys.argv[1], encoding="utf-8")).read(), object_pairs_hook=once, parse_float=decimal)
    if "rsoracle_proof" in report:
        check_proof(report)
        print(f"the holder of the key {report['key']} signed two different answers for the round {report['round_start_us']}")
    else:
        for seat, standing in zip(report["collectors"], check(report)):
            print(f"collector {seat['slot']}: {standing}, {seat['source']}, key {seat['key']}; samples, average and signature check")
        print(f"aggregator: key {report['aggregator_key']}; signature, terms and round {report['round_start_us']} check")
        print(f"price of {report['feed']}: {report['price']}, recomputed bit for bit.")
    print("Whose these keys are is not checked.")
except Exception as wrong:
    sys.exit(f"REFUSED: {wrong!r}")
