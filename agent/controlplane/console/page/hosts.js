// The hosts of a cluster, and one host with what is booked and used of it, its attributes and its tasks.

import { h } from "./dom.js";
import { bar, empty, facts, filters, hostStatus, matches, NONE, place, section, table, time } from "./parts.js";
import { figures, heading, newestFirst, tally, taskTable } from "./tasks.js";
import { bytes, cpus, last, mib, percent } from "./text.js";

const STATES = {
  all: () => true,
  connected: (host) => host.agentConnected,
  away: (host) => !host.agentConnected,
  draining: (host) => host.status === "DRAINING",
};

/** Return what a host has and what of it is booked and used; figures are null if they are not known. */
export function loadOf(fleet, host) {
  const amount = (list, name) => host[list].find((one) => one.name === name)?.integerValue ?? 0;
  const gpus = (list) => host[list].find((one) => one.name === "GPU")?.stringSetValue.length ?? 0;
  const used = host.agentConnected ? fleet.hostFigures.get(last(host.containerInstanceArn)) : null;
  return {
    cpu: {
      whole: amount("registeredResources", "CPU"),
      booked: amount("registeredResources", "CPU") - amount("remainingResources", "CPU"),
      used: used?.cpuUnits ?? null,
    },
    memory: {
      whole: amount("registeredResources", "MEMORY"),
      booked: amount("registeredResources", "MEMORY") - amount("remainingResources", "MEMORY"),
      used: used?.memoryUsedBytes ? used.memoryUsedBytes / 1048576 : null,
      wholeUsed: used?.memoryTotalBytes ? used.memoryTotalBytes / 1048576 : null,
    },
    disk: { used: used?.diskUsedBytes ?? null, whole: used?.diskTotalBytes ?? null },
    gpus: { whole: gpus("registeredResources"), booked: gpus("registeredResources") - gpus("remainingResources") },
  };
}

/** Return the view of all hosts. */
export function hostsView({ fleet, route }) {
  const all = [...fleet.hosts.values()].sort((one, other) => nameOf(fleet, one).localeCompare(nameOf(fleet, other), undefined, { numeric: true }));
  const state = STATES[route.query.get("status")] ?? STATES.all;
  const found = all.filter((host) => state(host) && matches(route.query.get("q"), [
    nameOf(fleet, host), last(host.containerInstanceArn), host.ec2InstanceId, host.status,
    ...host.attributes.map((one) => `${one.name}=${one.value ?? ""}`),
  ]));
  return [
    heading("Hosts", `${found.length} of ${all.length}`),
    filters(route.query, {
      label: "Filter by name, id or attribute",
      choices: [{
        name: "status", label: "Status",
        options: [["all", "All"], ["connected", "Connected"], ["away", "Away"], ["draining", "Draining"]],
      }],
    }),
    found.length
      ? hostTable(fleet, found, route.query)
      : all.length
        ? empty("No host matches.")
        : empty(
            "No hosts here yet. On each host, with the token of this control:",
            `sudo ecs-agent join ${location.origin} --token-file agent.tokens${fleet.cluster === "default" ? "" : ` --cluster ${fleet.cluster}`}`,
          ),
  ];
}

function nameOf(fleet, host) {
  return fleet.hostName(last(host.containerInstanceArn));
}

function hostTable(fleet, hosts, query) {
  const columns = [
    {
      id: "name", label: "Host", value: (host) => nameOf(fleet, host),
      cell: (host) => h("a", { href: place(fleet.cluster, ["hosts", last(host.containerInstanceArn)]) }, nameOf(fleet, host)),
    },
    { id: "status", label: "Status", value: (host) => `${host.agentConnected} ${host.status}`, cell: hostStatus },
    { id: "tasks", label: "Tasks", right: true, value: (host) => host.runningTasksCount, cell: tasksOf },
    {
      id: "cpu", label: "CPU", value: (host) => share(loadOf(fleet, host).cpu), cell: (host) => bar("", loadOf(fleet, host).cpu),
    },
    {
      id: "memory", label: "Memory", value: (host) => share(loadOf(fleet, host).memory),
      cell: (host) => bar("", memoryBar(loadOf(fleet, host).memory)),
    },
    hosts.some((host) => loadOf(fleet, host).gpus.whole) && {
      id: "gpus", label: "GPUs", right: true, value: (host) => loadOf(fleet, host).gpus.booked,
      cell: (host) => gpus(loadOf(fleet, host)) || NONE,
    },
    { id: "agent", label: "Agent", value: (host) => host.versionInfo?.agentVersion, cell: (host) => host.versionInfo?.agentVersion || NONE },
  ].filter(Boolean);
  return table({ caption: "Hosts", columns, rows: hosts, keyOf: (host) => last(host.containerInstanceArn), query });
}

function tasksOf(host) {
  return host.pendingTasksCount ? `${host.runningTasksCount} + ${host.pendingTasksCount}` : String(host.runningTasksCount);
}

function share({ used, booked, whole }) {
  return (used ?? booked) / whole;
}

/** Return what a bar of memory shows: what is used is a share of all of the host's, not of what it offers. */
export function memoryBar({ whole, booked, used, wholeUsed }) {
  const scale = wholeUsed ?? whole;
  return { whole: scale, booked, used };
}

function gpus(load) {
  return load.gpus.whole ? `${load.gpus.booked} of ${load.gpus.whole} booked` : null;
}

/** Return the view of one host. */
export function hostView(app) {
  const { fleet, route, details } = app;
  const id = route.parts[1];
  const host = fleet.hosts.get(id);
  if (!host) return [heading("Host", id), empty("There is no such host in this cluster any more.")];
  const load = loadOf(fleet, host);
  const tasks = newestFirst(fleet.tasksOf({ host: id }));
  const active = tasks.filter((task) => task.lastStatus !== "STOPPED");
  const dimensions = {
    ClusterName: fleet.cluster, ContainerInstanceId: id,
    ...(/^i-[0-9a-f]+$/.test(host.ec2InstanceId ?? "") ? { InstanceId: host.ec2InstanceId } : {}),
  };
  const found = details.figures(`host ${id}`, [
    { id: "cpu", namespace: "ECS/ContainerInsights", metric: "instance_cpu_utilization", dimensions },
    { id: "memory", namespace: "ECS/ContainerInsights", metric: "instance_memory_utilization", dimensions },
  ]);
  const percentOf = (value) => percent(value / 100);
  return [
    heading(fleet.hostName(id), hostStatus(host)),
    host.statusReason && h("p", { class: "reason" }, host.statusReason),
    facts([
      ["Container instance", h("code", { class: "break" }, id), true],
      ["Instance", host.ec2InstanceId],
      ["Agent", host.versionInfo?.agentVersion],
      ["Engine", host.versionInfo?.dockerVersion?.replace("DockerVersion: ", "")],
      ["GPUs", gpus(load)],
      ["Capacity provider", host.capacityProviderName],
      ["Registered", time(host.registeredAt)],
    ]),
    section(
      "Booked and used",
      h("div", { class: "bars" },
        bar("CPU", { ...load.cpu, text: `${cpus(load.cpu.booked)} booked, ${cpus(load.cpu.used)} used, of ${cpus(load.cpu.whole)}` }),
        bar("Memory", { ...memoryBar(load.memory), text: `${mib(load.memory.booked)} booked, ${load.memory.used === null ? "–" : mib(load.memory.used)} used, of ${mib(load.memory.wholeUsed ?? load.memory.whole)}` }),
        load.disk.whole && bar("Disk", { ...load.disk, text: `${bytes(load.disk.used)} used, of ${bytes(load.disk.whole)}` })),
      figures(found, [["CPU", "cpu", percentOf], ["Memory", "memory", percentOf]]),
    ),
    section("Tasks", active.length ? [h("p", { class: "quiet" }, tally(active)), taskTable(app, active, { withHost: false })] : empty("No task runs here.")),
    h("details", { class: "past" },
      h("summary", null, `${host.attributes.length} attributes`),
      h("ul", { class: "attributes" }, host.attributes.map((one) =>
        h("li", { "data-key": one.name }, h("code", null, one.value ? `${one.name} = ${one.value}` : one.name))))),
  ];
}
