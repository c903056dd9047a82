// Draws: the chart of the last hours and the small lines of the collectors. SVG, by attributes, since no style may be inline.

const SVG = "http://www.w3.org/2000/svg";
const GAP_ROUNDS = 2.5;
const TICKS = 5;

function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Runs of points that follow each other without a gap.
function runs(points, has, gapUs) {
  const found = [];
  let run = null;
  for (const point of points) {
    if (!has(point)) {
      run = null;
    } else if (run && point.at - run.at(-1).at <= gapUs) {
      run.push(point);
    } else {
      found.push((run = [point]));
    }
  }
  return found;
}

const place = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
const lineOf = (run, x, y) => `M${run.map((point) => place(x(point), y(point))).join("L")}${run.length === 1 ? "h0.1" : ""}`;

function bandOf(run, x, low, high) {
  const wide = run.length === 1 ? [run[0], run[0]] : run;
  const upper = wide.map((point) => place(x(point), high(point)));
  const lower = wide.map((point) => place(x(point), low(point))).reverse();
  return `M${upper.concat(lower).join("L")}Z`;
}

// About so many round numbers between two.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((part) => part * ten).find((one) => one >= raw);
  const digits = Math.min(12, Math.max(0, -Math.floor(Math.log10(step) + 1e-9)));
  const found = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) found.push([at, at.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits })]);
  return found;
}

const clock = (us, seconds) =>
  new Date(us / 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: seconds ? "2-digit" : undefined, hourCycle: "h23" });

// The lowest and highest price that the chart shows: what was used, so that one that lies far off does not flatten the rest.
function bounds(points) {
  let [low, high] = [Infinity, -Infinity];
  for (const { used, price } of points) {
    if (used) [low, high] = [Math.min(low, used[0]), Math.max(high, used[1])];
    if (price !== null) [low, high] = [Math.min(low, price), Math.max(high, price)];
  }
  const margin = Math.max((high - low) * 0.12, high * 1e-6);
  return [low - margin, high + margin];
}

function drawAxes(root, { width, height, right, bottom, from, to, low, high, y }) {
  for (const [value, text] of ticks(low, high, TICKS)) {
    root.append(svg("line", { class: "grid", x1: 0, x2: width - right, y1: y(value), y2: y(value) }));
    root.append(svg("text", { x: width - right + 6, y: y(value) + 4 }, text));
  }
  const count = width < 500 ? 2 : 5;
  for (let at = 0; at <= count; at++) {
    const anchor = at === 0 ? "start" : at === count ? "end" : "middle";
    const x = (at / count) * (width - right);
    root.append(svg("text", { x, y: height - bottom + 16, "text-anchor": anchor }, clock(from + ((to - from) * at) / count, to - from < 600e6)));
  }
}

// Draws the chart of these points, which are in order of time, into a box of so many pixels.
function drawChart(points, periodUs, width, height) {
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Prices and the band of the answers" });
  const priced = points.filter((point) => point.price !== null || point.used);
  if (priced.length === 0 || width < 100) {
    root.append(svg("text", { x: 8, y: 24 }, "No prices yet."));
    return { root, find: () => null };
  }
  const [low, high] = bounds(priced);
  const [from, last] = [points[0].at, points.at(-1).at];
  const to = Math.max(last, from + 1);
  const [right, bottom] = [Math.max(...ticks(low, high, TICKS).map(([, text]) => text.length)) * 6.7 + 12, 24];
  const inside = (value) => Math.min(Math.max(value, low), high);
  const y = (value) => (1 - (inside(value) - low) / (high - low)) * (height - bottom);
  const x = (point) => ((point.at - from) / (to - from)) * (width - right);
  drawAxes(root, { width, height, right, bottom, from, to, low, high, y });
  const gapUs = periodUs > 0 ? GAP_ROUNDS * periodUs : Infinity;
  for (const [name, part] of [["band-all", "all"], ["band-used", "used"]]) {
    const shapes = runs(points, (point) => point[part], gapUs).map((run) => bandOf(run, x, (point) => y(point[part][0]), (point) => y(point[part][1])));
    root.append(svg("path", { class: name, d: shapes.join("") }));
  }
  for (const point of points.filter(({ price, state }) => price === null || state === "wrong")) {
    root.append(svg("line", { class: `gone ${point.state}`, x1: x(point), x2: x(point), y1: 0, y2: height - bottom }));
  }
  const lines = runs(points, (point) => point.price !== null, gapUs).map((run) => lineOf(run, x, (point) => y(point.price)));
  root.append(svg("path", { class: "path", d: lines.join("") }));
  const end = points.findLast((point) => point.price !== null);
  if (end) root.append(svg("circle", { class: "dot", r: 3.5, cx: x(end), cy: y(end.price) }));
  const cross = svg("line", { class: "cross", x1: -9, x2: -9, y1: 0, y2: height - bottom });
  root.append(cross);
  // The point that is nearest to a place, which is then marked; null marks none.
  const find = (pixel) => {
    const near = pixel === null ? null : points.reduce((best, point) => (Math.abs(x(point) - pixel) < Math.abs(x(best) - pixel) ? point : best));
    for (const end of ["x1", "x2"]) cross.setAttribute(end, near ? x(near) : -9);
    return near;
  };
  return { root, find };
}

// Draws one collector's prices.
function drawSpark(points, slot, periodUs) {
  const root = svg("svg", { viewBox: "0 0 120 28", preserveAspectRatio: "none", "aria-hidden": "true" });
  const has = (point) => Number.isFinite(point.slots[slot]);
  const given = points.filter(has);
  if (given.length === 0) return root;
  // Rounds whose price was withheld do not flatten the rest.
  const priced = given.filter((point) => point.price !== null);
  const [low, high] = rangeOf((priced.length > 0 ? priced : given).map((point) => point.slots[slot]));
  const [from, to] = [points[0].at, Math.max(points.at(-1).at, points[0].at + 1)];
  const x = (point) => 1 + ((point.at - from) / (to - from)) * 118;
  const inside = (value) => Math.min(Math.max(value, low), high);
  const y = (point) => (high > low ? 26 - ((inside(point.slots[slot]) - low) / (high - low)) * 24 : 14);
  const gapUs = periodUs > 0 ? GAP_ROUNDS * periodUs : Infinity;
  root.append(svg("path", { class: "path", d: runs(points, has, gapUs).map((run) => lineOf(run, x, y)).join("") }));
  return root;
}
