// Parts that all views share: statuses, times, bars, tables and what is said where there is nothing.

import { h } from "./dom.js";
import { ago, last, moment, percent, word } from "./text.js";

/** What a table shows where there is nothing to show. */
export const NONE = "–";

/** Return a link to a place of the page. `query` goes behind it, without what is empty. */
export function place(cluster, parts = [], query = {}) {
  const path = ["c", cluster, ...parts].map(encodeURIComponent).join("/");
  const given = Object.entries(query).filter(([, value]) => value);
  return `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
}

/** Return a dot and a word; `tone` is good, busy, bad or quiet. */
export function status(tone, text) {
  return h("span", { class: `status ${tone}` }, h("i", { "aria-hidden": "true" }), text);
}

/** Return how long ago something was, with the moment itself as its title; it counts on by itself. */
export function time(at) {
  if (!at) return h("span", { class: "quiet" }, "–");
  return h("time", { datetime: new Date(at * 1000).toISOString(), "data-at": at, title: moment(at) }, ago(at));
}

/** Return a bar: what is used solid, what is booked behind it and with a mark at its end, of a whole. */
export function bar(label, { used = null, booked = null, whole, text }) {
  const share = (part) => (whole > 0 && part !== null ? Math.min(1, part / whole) : 0);
  const told = [
    used === null ? null : `${percent(used / whole)} used`,
    booked === null ? null : `${percent(booked / whole)} booked`,
  ].filter(Boolean);
  return h(
    "div",
    { class: "bar" },
    label && h("span", { class: "bar-label" }, label),
    h(
      "div",
      { class: "track", role: "img", "aria-label": `${label || "Share"}: ${told.join(", ") || "no figures"}`, title: told.join(", ") },
      booked === null ? null : h("b", { class: "booked", "data-width": share(booked) }),
      used === null ? null : h("b", { class: used / whole > 0.9 ? "used much" : "used", "data-width": share(used) }),
      booked ? h("b", { class: "mark", "data-width": share(booked) }) : null,
    ),
    h("span", { class: "bar-text" }, text ?? (used === null ? "–" : percent(used / whole))),
  );
}

/** Set the widths of bars; a style in the markup would be refused by the content security policy. */
export function layBars(root) {
  for (const part of root.querySelectorAll("[data-width]")) {
    const width = `${(Number(part.dataset.width) * 100).toFixed(1)}%`;
    if (part.style.width !== width) part.style.width = width;
  }
}

/**
 * Return a table that becomes a list of cards on narrow screens.
 *
 * @param {object} table
 * @param {string} table.caption what it shows, for who does not see it.
 * @param {Array<{id, label, cell, value?, right?, wide?}>} table.columns `value` makes a column sortable; a `wide`
 *   one has a line of its own on narrow screens, where dashes are left out.
 * @param {Array} table.rows
 * @param {(row) => string} table.keyOf
 * @param {URLSearchParams} table.query `sort` and `down` of the place.
 */
export function table({ caption, columns, rows, keyOf, query }) {
  const by = columns.find((column) => column.id === query?.get("sort") && column.value);
  const isDown = query?.get("down") === "1";
  const sorted = by ? [...rows].sort((one, other) => order(by.value(one), by.value(other), isDown)) : rows;
  const head = columns.map((column) =>
    h(
      "th",
      { scope: "col", class: classes(column), "aria-sort": by === column ? (isDown ? "descending" : "ascending") : null },
      column.value && query
        ? h("button", { type: "button", "data-do": "sort", "data-sort": column.id, "data-down": by === column && !isDown ? "1" : "" },
            column.label, h("i", { "aria-hidden": "true" }, by === column ? (isDown ? "↓" : "↑") : ""))
        : column.label,
    ),
  );
  return h(
    "table",
    { class: "rows" },
    h("caption", { class: "unseen" }, caption),
    h("thead", null, h("tr", null, head)),
    h(
      "tbody",
      null,
      sorted.map((row) =>
        h(
          "tr",
          { "data-key": keyOf(row) },
          columns.map((column, at) => {
            const cell = column.cell(row);
            const named = [classes(column), cell === NONE && "none"].filter(Boolean).join(" ") || null;
            return h(at === 0 ? "th" : "td", { scope: at === 0 ? "row" : null, class: named, "data-label": column.label }, cell);
          }),
        ),
      ),
    ),
  );
}

function classes(column) {
  return [column.right && "right", column.wide && "wide"].filter(Boolean).join(" ") || null;
}

function order(one, other, isDown) {
  const isNone = (value) => value === null || value === undefined || Number.isNaN(value);
  if (isNone(one) || isNone(other)) return isNone(one) - isNone(other);
  const less = typeof one === "string" ? one.localeCompare(other, undefined, { numeric: true }) : one - other;
  return isDown ? -less : less;
}

/** Return what is shown where there is nothing: a sentence, and what to type. */
export function empty(sentence, ...commands) {
  return h(
    "div",
    { class: "empty" },
    h("p", null, sentence),
    commands.map((command) => h("pre", { tabindex: "0" }, h("code", null, command))),
  );
}

/** Return a section with a heading. */
export function section(title, ...content) {
  return h("section", { "data-key": `section ${title}` }, h("h2", null, title), content);
}

/** Return names and values, without those that are empty; a third member of a pair makes it a long one. */
export function facts(pairs) {
  return h(
    "dl",
    { class: "facts" },
    pairs
      .filter(([, value]) => value !== null && value !== undefined && value !== "")
      .map(([name, value, isLong]) => h("div", { class: isLong ? "long" : null }, h("dt", null, name), h("dd", null, value))),
  );
}

/** Return a text field that filters, and beside it choices. */
export function filters(query, { label, choices }) {
  return h(
    "form",
    { class: "filters", role: "search", "data-do": "filter" },
    h("input", {
      type: "search", name: "q", value: query.get("q") ?? "", placeholder: label, "aria-label": label,
      autocomplete: "off", spellcheck: "false", "data-filter": "q",
    }),
    choices.map(({ name, label: title, options }) =>
      h(
        "select",
        { name, "aria-label": title, "data-filter": name },
        options.map(([value, text]) =>
          h("option", { value, selected: (query.get(name) ?? options[0][0]) === value }, text),
        ),
      ),
    ),
  );
}

/** Tell whether every word of a search is in one of the texts. */
export function matches(search, texts) {
  const all = texts.filter(Boolean).join(" ").toLowerCase();
  return (search ?? "").toLowerCase().split(/\s+/).every((part) => all.includes(part));
}

/** Return the beginning of an id, which is enough to tell it from others, with all of it as the title. */
export function short(id) {
  return h("code", { title: id }, id.slice(0, 12));
}

/** Return the status of a task. */
export function taskStatus(task) {
  const { lastStatus, desiredStatus, healthStatus } = task;
  if (lastStatus === "STOPPED") {
    const failed = task.containers.some((one) => one.exitCode) || /TaskFailedToStart/.test(task.stopCode ?? "");
    return status(failed ? "bad" : "quiet", "Stopped");
  }
  if (desiredStatus === "STOPPED") return status("busy", "Stopping");
  if (task.connectivity === "DISCONNECTED") return status("bad", "Host away");
  if (lastStatus !== "RUNNING") return status("busy", word(lastStatus));
  if (healthStatus === "UNHEALTHY") return status("bad", "Unhealthy");
  return status("good", healthStatus === "HEALTHY" ? "Healthy" : "Running");
}

/** Return why a task has stopped or waits, in a sentence; empty if there is nothing to say. */
export function why(task) {
  const told = task.containers.filter((one) => one.reason || one.exitCode);
  if (task.lastStatus !== "STOPPED" && task.desiredStatus !== "STOPPED") {
    return task.lastStatus === "RUNNING" ? "" : told.map((one) => one.reason).find(Boolean) ?? "";
  }
  const codes = told.filter((one) => one.exitCode).map((one) => `${one.name} exited with ${one.exitCode}`);
  return [task.stoppedReason, ...codes].filter(Boolean).join(" · ");
}

/** Return the status of a host. */
export function hostStatus(host) {
  if (!host.agentConnected) return status("bad", "Away");
  if (host.status === "DRAINING") return status("busy", "Draining");
  return host.status === "ACTIVE" ? status("good", "Connected") : status("busy", word(host.status));
}

/** Return the status of a service. */
export function serviceStatus(service) {
  if (service.status === "DRAINING") return status("busy", "Draining");
  const rollouts = (service.deployments ?? []).map((one) => one.rolloutState);
  if (rollouts.includes("FAILED")) return status("bad", "Deployment failed");
  if (rollouts.includes("IN_PROGRESS")) return status("busy", "Deploying");
  if (service.runningCount < service.desiredCount) return status("bad", "Too few tasks");
  if (service.runningCount > service.desiredCount || service.pendingCount) return status("busy", "Scaling");
  return status("good", service.desiredCount ? "Steady" : "Scaled to 0");
}

/** Return family and revision of a task definition. */
export function definitionName(arn) {
  return last(arn ?? "");
}

const TASK_ID = /\b[0-9a-f]{32}\b/g;
const NAMED_TASKS = /(?: ?\(task [0-9a-f]{32}\)){5,}/;

/** Return the text of a service's event: without what is said where it stands, and with links to tasks that there are. */
export function eventText(fleet, service, message) {
  const text = message.replace(`(service ${service}) `, "").replace(/\.$/, "").replace(NAMED_TASKS, fewer);
  const shown = [];
  let at = 0;
  for (const found of text.matchAll(TASK_ID)) {
    const [id] = found;
    if (!fleet.tasks.has(id)) continue;
    shown.push(text.slice(at, found.index), h("a", { href: place(fleet.cluster, ["tasks", id]) }, short(id)));
    at = found.index + id.length;
  }
  return [...shown, text.slice(at)];
}

function fewer(tasks) {
  const all = tasks.match(/\(task [0-9a-f]{32}\)/g);
  return ` ${all.slice(0, 3).join(" ")} and ${all.length - 3} others`;
}
