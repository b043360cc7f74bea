// The tasks of a cluster, and one task with its containers, figures and logs.

import { chart } from "./chart.js";
import { SPAN_S } from "./details.js";
import { h } from "./dom.js";
import { logOf } from "./logs.js";
import {
  definitionName, empty, facts, filters, matches, NONE, place, section, short, status, table, taskStatus, time, why,
} from "./parts.js";
import { bytes, count, cpus, last, mib, now } from "./text.js";

const SHOWN_MOST = 500;
const STATES = {
  active: (task) => task.lastStatus !== "STOPPED",
  running: (task) => task.lastStatus === "RUNNING",
  starting: (task) => task.lastStatus !== "STOPPED" && task.lastStatus !== "RUNNING",
  stopped: (task) => task.lastStatus === "STOPPED",
  all: () => true,
};

/** Return the view of all tasks. */
export function tasksView(app) {
  const { fleet, route } = app;
  const state = STATES[route.query.get("status")] ?? STATES.active;
  const search = route.query.get("q");
  const all = [...fleet.tasks.values()];
  const found = newestFirst(all.filter((task) => state(task) && matches(search, texts(fleet, task))));
  return [
    heading("Tasks", `${found.length} of ${all.length}`),
    filters(route.query, {
      label: "Filter by id, definition, service, host or reason",
      choices: [{
        name: "status", label: "Status",
        options: [["active", "Not stopped"], ["running", "Running"], ["starting", "Starting"], ["stopped", "Stopped"], ["all", "All"]],
      }],
    }),
    found.length ? taskTable(app, found.slice(0, SHOWN_MOST), { query: route.query }) : nothing(fleet, all),
    found.length > SHOWN_MOST && h("p", { class: "quiet" }, `The newest ${SHOWN_MOST} are shown; filter for others.`),
    fleet.hasMoreStopped && h("p", { class: "quiet" }, "There are more stopped tasks than the console reads."),
  ];
}

function nothing(fleet, all) {
  if (all.length) return empty("No task matches.");
  return empty(
    "No tasks here yet. Run one:",
    `aws ecs run-task --cluster ${fleet.cluster} --task-definition NAME`,
  );
}

/** Return tasks, newest first. */
export function newestFirst(tasks) {
  return tasks.sort((one, other) => (other.stoppedAt ?? other.createdAt) - (one.stoppedAt ?? one.createdAt));
}

function texts(fleet, task) {
  const host = task.containerInstanceArn ? last(task.containerInstanceArn) : "";
  return [
    last(task.taskArn), definitionName(task.taskDefinitionArn), task.group, host, host && fleet.hostName(host),
    task.lastStatus, task.healthStatus, why(task), task.startedBy,
  ];
}

/** Return a table of tasks. */
export function taskTable({ fleet }, tasks, { query = null, withHost = true } = {}) {
  const figures = (task) => fleet.taskFigures.get(last(task.taskArn));
  const columns = [
    {
      id: "task", label: "Task",
      cell: (task) => h("a", { href: place(fleet.cluster, ["tasks", last(task.taskArn)]) }, short(last(task.taskArn))),
    },
    { id: "status", label: "Status", value: (task) => task.lastStatus, cell: taskStatus },
    {
      id: "definition", label: "Definition", wide: true, value: (task) => definitionName(task.taskDefinitionArn),
      cell: (task) => [
        h("span", { class: "nowrap" }, definitionName(task.taskDefinitionArn)),
        why(task) && h("span", { class: "why" }, why(task)),
      ],
    },
    withHost && {
      id: "host", label: "Host",
      value: (task) => task.containerInstanceArn && fleet.hostName(last(task.containerInstanceArn)),
      cell: (task) => hostLink(fleet, task),
    },
    {
      id: "cpu", label: "CPU", right: true, value: (task) => figures(task)?.cpuUnits,
      cell: (task) => (isOver(task) ? NONE : cpus(figures(task)?.cpuUnits)),
    },
    {
      id: "memory", label: "Memory", right: true, value: (task) => figures(task)?.memoryBytes,
      cell: (task) => (isOver(task) ? NONE : bytes(figures(task)?.memoryBytes)),
    },
    {
      id: "since", label: "Since", right: true, value: (task) => task.stoppedAt ?? task.startedAt ?? task.createdAt,
      cell: (task) => time(task.stoppedAt ?? task.startedAt ?? task.createdAt),
    },
  ].filter(Boolean);
  return table({ caption: "Tasks", columns, rows: tasks, keyOf: (task) => last(task.taskArn), query });
}

function isOver(task) {
  return task.lastStatus === "STOPPED";
}

function hostLink(fleet, task) {
  if (!task.containerInstanceArn) return h("span", { class: "quiet" }, "none");
  const id = last(task.containerInstanceArn);
  return h("a", { href: place(fleet.cluster, ["hosts", id]) }, fleet.hostName(id));
}

/** Return the view of one task. */
export function taskView(app) {
  const { fleet, route, details } = app;
  const id = route.parts[1];
  const task = fleet.tasks.get(id);
  if (!task) {
    return [heading("Task", id), empty("There is no such task any more. Stopped tasks are kept for an hour.")];
  }
  const definition = details.definition(task.taskDefinitionArn);
  const reason = why(task);
  const service = task.group?.startsWith("service:") ? task.group.slice("service:".length) : null;
  return [
    heading(h("code", null, id), taskStatus(task)),
    reason && h("p", { class: isOver(task) ? "reason" : "reason waits" }, reason),
    facts([
      ["Definition", definitionName(task.taskDefinitionArn)],
      ["Service", service && h("a", { href: place(fleet.cluster, ["services", service]) }, service)],
      ["Group", service ? null : task.group],
      ["Host", hostLink(fleet, task)],
      ["Reserves", reserves(task, definition.value)],
      ["Launch type", task.capacityProviderName ?? task.launchType],
      ["Created", time(task.createdAt)],
      ["Started", task.startedAt && time(task.startedAt)],
      ["Stopped", task.stoppedAt && time(task.stoppedAt)],
      ["Stop code", task.stopCode],
      ["Started by", service ? null : task.startedBy],
      ["Address", task.attachments.flatMap((one) => one.details).find((one) => one.name === "privateIPv4Address")?.value],
    ]),
    section("Containers", containers(app, task, definition.value)),
    terminal(app, id),
    usage(app, task),
    logs(app, task, definition),
  ];
}

function reserves(task, definition) {
  const total = (member, given) =>
    Number(given) || (definition?.containerDefinitions ?? []).reduce((sum, one) => sum + (one[member] ?? 0), 0);
  const memory = total("memory", task.memory) || total("memoryReservation");
  const cpu = total("cpu", task.cpu);
  return [cpu ? cpus(cpu) : null, memory ? mib(memory) : null].filter(Boolean).join(", ");
}

function terminal(app, id) {
  const element = app.terminalView(id);
  return element && section(`Terminal in ${app.terminal.container}`, element);
}

function terminalButton(task, one) {
  if (task.lastStatus !== "RUNNING" || one.lastStatus !== "RUNNING") return NONE;
  const about = { "data-do": "terminal", "data-task": last(task.taskArn), "data-container": one.name };
  return h("button", { type: "button", class: "small", ...about, "aria-label": `Terminal in ${one.name}` }, "Terminal");
}

function containers(app, task, definition) {
  const columns = [
    { id: "name", label: "Name", cell: (one) => h("strong", null, one.name) },
    { id: "status", label: "Status", cell: containerStatus },
    { id: "exit", label: "Exit code", right: true, cell: (one) => exitCode(one) },
    {
      id: "image", label: "Image", wide: true,
      cell: (one) => [h("code", { class: "break" }, one.image ?? ""), one.reason && h("span", { class: "why" }, one.reason)],
    },
    { id: "ports", label: "Ports", cell: (one) => ports(one) },
    app.hasTerminals && task.enableExecuteCommand && { id: "terminal", label: "", right: true, cell: (one) => terminalButton(task, one) },
  ].filter(Boolean);
  const essential = new Set((definition?.containerDefinitions ?? []).filter((one) => one.essential !== false).map((one) => one.name));
  const rows = [...task.containers].sort((one, other) => essential.has(other.name) - essential.has(one.name));
  return table({ caption: "Containers", columns, rows, keyOf: (one) => one.name, query: null });
}

function containerStatus(one) {
  if (one.lastStatus === "STOPPED") return status(one.exitCode ? "bad" : "quiet", "Stopped");
  if (one.lastStatus !== "RUNNING") return status("busy", one.lastStatus === "PENDING" ? "Pending" : one.lastStatus);
  if (one.healthStatus === "UNHEALTHY") return status("bad", "Unhealthy");
  return status("good", one.healthStatus === "HEALTHY" ? "Healthy" : "Running");
}

function exitCode(one) {
  if (one.exitCode === null || one.exitCode === undefined) return NONE;
  const signal = { 137: "SIGKILL", 143: "SIGTERM", 139: "SIGSEGV", 134: "SIGABRT" }[one.exitCode];
  return h("span", { class: one.exitCode ? "failed" : null }, String(one.exitCode), signal && h("span", { class: "quiet" }, ` ${signal}`));
}

function ports(one) {
  const shown = (one.networkBindings ?? []).map((bound) => `${bound.hostPort ?? bound.hostPortRange} → ${bound.containerPort ?? bound.containerPortRange}/${bound.protocol}`);
  return shown.length ? shown.join(", ") : NONE;
}

function usage({ fleet, details }, task) {
  const id = last(task.taskArn);
  const dimensions = {
    ClusterName: fleet.cluster, TaskDefinitionFamily: definitionName(task.taskDefinitionArn).split(":")[0], TaskId: id,
  };
  const found = details.figures(`task ${id}`, [
    { id: "cpu", namespace: "ECS/ContainerInsights", metric: "CpuUtilized", dimensions },
    { id: "memory", namespace: "ECS/ContainerInsights", metric: "MemoryUtilized", dimensions },
  ]);
  const live = fleet.taskFigures.get(id);
  return section(
    "Figures",
    figures(found, [["CPU", "cpu", cpus], ["Memory", "memory", mib]]),
    live && !isOver(task) && h("p", { class: "quiet" },
      `Now: ${cpus(live.cpuUnits)}, ${bytes(live.memoryBytes)}`,
      live.receiveBytesPerS === null || live.receiveBytesPerS === undefined ? "" :
        `, ${bytes(live.receiveBytesPerS)}/s in, ${bytes(live.transmitBytesPerS)}/s out`, "."),
  );
}

/** Return charts beside each other, or why there are none. */
export function figures(found, wanted) {
  if (found.error) return h("p", { class: "quiet" }, found.error.message);
  return h("div", { class: "charts" }, wanted.map(([title, id, text]) =>
    chart({ title, points: found.value ? found.value[id] ?? [] : null, text, until: now(), spanS: SPAN_S })));
}

function logs(app, task, definition) {
  const { fleet, route } = app;
  const id = last(task.taskArn);
  if (definition.error) return section("Log", h("p", { class: "quiet" }, definition.error.message));
  if (!definition.value) return section("Log", h("p", { class: "quiet" }, "Reading…"));
  const names = task.containers.map((one) => one.name);
  const wanted = names.includes(route.parts[3]) ? route.parts[3] : names[0];
  const container = task.containers.find((one) => one.name === wanted);
  if (!container) return null;
  const where = logOf(definition.value, container, id);
  return section(
    "Log",
    names.length > 1 && h("nav", { class: "tabs", "aria-label": "Containers" }, names.map((name) =>
      h("a", { href: place(fleet.cluster, ["tasks", id, "logs", name]), "aria-current": name === wanted ? "true" : null }, name))),
    where.missing
      ? empty(where.missing, `sudo ecs-agent logs ${id} -c ${wanted}`)
      : [h("p", { class: "quiet" }, h("code", { class: "break" }, `${where.group} / ${where.stream}`)), app.logView(where)],
  );
}

/** Return the heading of a view. */
export function heading(title, beside) {
  return h("header", { class: "heading" }, h("h1", { tabindex: "-1" }, title), beside && h("div", { class: "beside" }, beside));
}

/** Return how many of tasks run, start and have stopped, as a sentence. */
export function tally(tasks) {
  const running = tasks.filter(STATES.running).length;
  const starting = tasks.filter(STATES.starting).length;
  return [count(running, "task") + " running", starting ? `${starting} starting` : null].filter(Boolean).join(", ");
}

