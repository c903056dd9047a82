// The tables of reasons of docs/PROTOCOL.md, in the order of their codes from 1.

const REJECTS = [
  "not this protocol",
  "another protocol version",
  "a frame that has no place here",
  "reserved bytes are not zero",
  "no hello or preamble in time",
  "a frame was begun and not finished in time",
  "the connection ended inside a frame",
  "displaced by newer connections before it proved anything",
  "other terms than those of this roster",
  "displaced by another connection of the same key",
  "the slot is not the one of this key",
  "the public key is no point, one of small order, or a second spelling",
  "nothing was heard for 15 seconds",
  "the hello's signature does not check under this nonce and this aggregator's key",
  "no round of the schedule starts then",
  "the public key is in no slot of the roster",
  "the round is over",
  "a price older than the terms allow",
  "a sample numbered twice, out of order or beyond the last",
  "a sample record that contradicts itself",
  "a sample asked for too late to count",
  "the average is neither a price nor an abstention",
  "the timestamp lies outside the round",
  "an observation without all of its samples",
  "the observation's signature does not check over this round, its terms and the samples received",
  "signed, but made of too few valid samples",
  "signed, but the average is not that of its samples",
  "signed, but the timestamp is not that of its newest valid sample",
  "the same observation again",
  "two different signed observations for one round",
  "more than a second before its instant",
];

const MISSES = [
  "no connection to the exchange",
  "no reply in time",
  "the connection ended before the reply",
  "a message larger than 64 KiB",
  "the reply is not JSON",
  "the reply lacks a field or has one of another type",
  "the reply has another id",
  "the reply has another symbol",
  "the price is no decimal number",
  "the price is zero, negative or absurd",
  "the exchange answered with an error",
  "the exchange limits or bans this address",
  "the instant had passed",
  "the system clock was stepped",
  "the newest price is too old, or none has come",
  "the best bid is above the best ask",
  "the best bid and the best ask are more than 2 % apart",
];

const ABSTENTIONS = [
  "fewer than 80 % of the samples are valid",
  "the system clock was stepped within the round",
  "the exchange lives, and says no price that is young enough",
];

const DECISIONS = ["published", "unchanged", "no-quorum", "moved-too-far", "spread-too-wide"];
