"use strict";
// What docs/PROTOCOL.md says of bytes, keys and signatures. Nothing here trusts the server.

// 2^255 - 19, the order of the group, and d of the curve -x² + y² = 1 + d x² y².
const P = 2n ** 255n - 19n;
const L = 2n ** 252n + 27742317777372353535851937790883648493n;
const D = 37095705934669439343138083508754565189542113879843219016388785533085940283555n;
const TIME_US_MAX = Number.MAX_SAFE_INTEGER;
// Keys that are remembered once they were looked at.
const KEYS_MAX = 8192;

class Wrong extends Error {}

function need(holds, what) {
  if (!holds) throw new Wrong(what);
}

const isWhole = (value, least = 0, most = TIME_US_MAX) =>
  Number.isInteger(value) && !Object.is(value, -0) && value >= least && value <= most;
const isPrice = (value) => typeof value === "number" && value >= 1e-12 && value <= 1e15;

// The bytes of hexadecimal text: lower case, and exactly so many.
function unhex(text, width) {
  need(typeof text === "string" && text.length === 2 * width && /^[0-9a-f]*$/.test(text), `not ${width} bytes in hexadecimal`);
  return Uint8Array.from({ length: width }, (_, at) => parseInt(text.substr(2 * at, 2), 16));
}

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

// Fields of fixed width, one after the other.
class Fields {
  constructor(context) {
    this.bytes = new Uint8Array(512);
    this.length = 0;
    if (context) this.text(`rsoracle 2 ${context}`, 32);
  }

  room(width) {
    if (this.length + width > this.bytes.length) {
      const more = new Uint8Array(2 * (this.length + width));
      more.set(this.bytes);
      this.bytes = more;
    }
    this.length += width;
    return new DataView(this.bytes.buffer, this.length - width, width);
  }

  raw(bytes) {
    this.room(bytes.length);
    this.bytes.set(bytes, this.length - bytes.length);
    return this;
  }

  zeros(width) {
    this.room(width);
    return this;
  }

  text(value, width) {
    const bytes = new TextEncoder().encode(value);
    need(bytes.length <= width, `${value} is longer than ${width} bytes`);
    return this.raw(bytes).zeros(width - bytes.length);
  }

  number(value, width = 8) {
    const view = this.room(width);
    need(isWhole(value, 0, Math.min(TIME_US_MAX, 256 ** width - 1)), `${value} is no number of ${width} bytes`);
    let rest = BigInt(value);
    for (let at = width - 1; at >= 0; at--, rest >>= 8n) view.setUint8(at, Number(rest & 255n));
    return this;
  }

  // A whole number that may be missing: null is all ones.
  numberOrNone(value, width = 8) {
    return value === null ? this.raw(new Uint8Array(width).fill(255)) : this.number(value, width);
  }

  // The bits of a number; null is zero.
  f64(value) {
    need(value === null || (typeof value === "number" && isFinite(value)), `${value} is no number`);
    this.room(8).setFloat64(0, value ?? 0);
    return this;
  }

  hex(text, width) {
    return this.raw(unhex(text, width));
  }

  done() {
    return this.bytes.slice(0, this.length);
  }

  async digest() {
    return new Uint8Array(await crypto.subtle.digest("SHA-512", this.done())).slice(0, 32);
  }
}

function power(base, exponent) {
  let result = 1n;
  for (let square = base % P; exponent > 0n; exponent >>= 1n, square = (square * square) % P) {
    if (exponent & 1n) result = (result * square) % P;
  }
  return result;
}

function littleEndian(bytes) {
  return bytes.reduceRight((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

// Whether this is the one encoding of a point of the curve whose order is not small.
function isSoundPoint(bytes) {
  const y = littleEndian(bytes) & (2n ** 255n - 1n);
  const yy = (y * y) % P;
  // y = ±1: order 1 or 2; 0: order 4; the zeros of the last factor: order 8.
  const small = (y * (yy - 1n) * (D * yy * yy + 2n * yy - 1n)) % P === 0n;
  if (y >= P || small) return false;
  // x² = (y² - 1) / (d y² + 1) must be a square; as a product it is one if the quotient is.
  return power((yy + P - 1n) * (D * yy + 1n), (P - 1n) / 2n) === 1n;
}

const keys = new Map();

// The key of these digits for the browser's Ed25519, if it is one that nobody else can sign for.
async function importKey(digits) {
  let known = keys.get(digits);
  if (known === undefined) {
    const bytes = unhex(digits, 32);
    known = isSoundPoint(bytes) ? await crypto.subtle.importKey("raw", bytes, "Ed25519", false, ["verify"]) : null;
    if (keys.size >= KEYS_MAX) keys.clear();
    keys.set(digits, known);
  }
  need(known, `anyone could sign for the key ${digits}, or nobody`);
  return known;
}

// Checks a signature. Browsers differ in what they accept beyond RFC 8032: R of small order or spelled twice, and S of L or more, are refused here.
async function isSigned(digits, message, signature) {
  const bytes = unhex(signature, 64);
  const key = await importKey(digits);
  if (!isSoundPoint(bytes.slice(0, 32)) || littleEndian(bytes.slice(32)) >= L) return false;
  return crypto.subtle.verify("Ed25519", key, bytes, message);
}

// Whether this browser can check, and if not, why. It is asked about a signature of docs/PROTOCOL.md, and about one that is wrong.
async function whyUnable() {
  if (!globalThis.isSecureContext || !globalThis.crypto?.subtle) {
    return "Browsers check signatures only on pages from https:// or from this machine.";
  }
  const key = "5c9c6df261c9cb840475776aaefcd944b405328fab28f9b3a95ef40490d3de84";
  const signature =
    "3e6cdc982c4c3cb2f4bf4cc25026078f25a8a19027f1a9283834fafb9ab49ef01d8af17b6d988f0c63a2a3b14bd8b0427971ec2daaabea0038c0c13a6e508901";
  try {
    const seat = new Fields("seat").hex(key, 32).number(1, 2).text("binance:BTCUSDC", 32).done();
    const right = await isSigned(key, seat, signature);
    seat[70] ^= 1;
    if (right && !(await isSigned(key, seat, signature))) return null;
  } catch {
    // It does not know the algorithm.
  }
  return "This browser cannot check Ed25519 signatures. A newer one can.";
}
