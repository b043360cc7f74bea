// A small line chart of one figure over an hour.

import { h, svg } from "./dom.js";
import { timeOfDay } from "./text.js";

const WIDTH = 320;
const HEIGHT = 72;

/**
 * Return a chart.
 *
 * @param {object} chart
 * @param {string} chart.title
 * @param {Array<{at: number, value: number}>} chart.points in order, times in Unix seconds; null while unread.
 * @param {(value: number) => string} chart.text
 * @param {number} chart.until the time at its right edge.
 * @param {number} chart.spanS how much time it shows.
 */
export function chart({ title, points, text, until, spanS }) {
  if (points === null) return frame(title, "", h("p", { class: "quiet" }, "Reading…"));
  if (points.length === 0) return frame(title, "", h("p", { class: "quiet" }, "No figures in this hour."));
  const from = until - spanS;
  const highest = Math.max(...points.map((one) => one.value));
  const top = highest > 0 ? highest * 1.15 : 1;
  const x = (at) => Math.max(0, Math.min(WIDTH, ((at - from) / spanS) * WIDTH));
  const y = (value) => HEIGHT - 2 - (value / top) * (HEIGHT - 6);
  const lines = runs(points).map((run) => run.map((one) => `${x(one.at).toFixed(1)},${y(one.value).toFixed(1)}`));
  const newest = points.at(-1);
  return frame(
    title,
    text(newest.value),
    svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
        "aria-label": `${title} in the last hour: ${text(newest.value)} now, ${text(highest)} at most`,
      },
      svg("line", { x1: 0, x2: WIDTH, y1: HEIGHT - 1, y2: HEIGHT - 1, class: "axis" }),
      lines.map((line) => [
        svg("polygon", { class: "area", points: [...line, `${line.at(-1).split(",")[0]},${HEIGHT}`, `${line[0].split(",")[0]},${HEIGHT}`].join(" ") }),
        svg("polyline", { class: "line", points: line.length === 1 ? `${line[0]} ${shifted(line[0])}` : line.join(" ") }),
      ]),
    ),
    h("p", { class: "chart-foot" }, h("span", null, timeOfDay(from * 1000).slice(0, 5)), h("span", null, `at most ${text(highest)}`), h("span", null, "now")),
  );
}

function frame(title, value, ...content) {
  return h("figure", { class: "chart" }, h("figcaption", null, h("span", null, title), h("strong", null, value)), content);
}

/** Split points where minutes are missing: a line over a gap would claim figures that nobody measured. */
function runs(points) {
  const found = [];
  for (const one of points) {
    const run = found.at(-1);
    if (run && one.at - run.at(-1).at <= 150) run.push(one);
    else found.push([one]);
  }
  return found;
}

function shifted(point) {
  const [x, y] = point.split(",").map(Number);
  return `${Math.max(0, x - 2)},${y}`;
}
