// All clusters, and the first view of one: how much runs, what is booked, and what needs somebody's attention.

import { h } from "./dom.js";
import { loadOf } from "./hosts.js";
import { bar, definitionName, empty, eventText, hostStatus, place, section, serviceStatus, table, taskStatus, time, why } from "./parts.js";
import { heading } from "./tasks.js";
import { count, cpus, last, mib, now } from "./text.js";

const RECENT_S = 3600;
const TROUBLES_MOST = 12;
const EVENTS_MOST = 15;

/** Return the view of all clusters. */
export function clustersView({ clusters }) {
  const all = [...clusters.clusters.values()].sort((one, other) => one.clusterName.localeCompare(other.clusterName));
  const columns = [
    { id: "name", label: "Cluster", cell: (one) => h("a", { href: place(one.clusterName) }, one.clusterName) },
    { id: "services", label: "Services", right: true, cell: (one) => one.activeServicesCount },
    { id: "running", label: "Tasks running", right: true, cell: (one) => one.runningTasksCount },
    { id: "pending", label: "Starting", right: true, cell: (one) => one.pendingTasksCount },
    { id: "hosts", label: "Hosts", right: true, cell: (one) => one.registeredContainerInstancesCount },
  ];
  return [
    heading("Clusters", String(all.length)),
    all.length
      ? table({ caption: "Clusters", columns, rows: all, keyOf: (one) => one.clusterName, query: null })
      : empty("There is no cluster yet. Create one:", "aws ecs create-cluster --cluster-name default"),
  ];
}

/** Return the first view of a cluster. */
export function overviewView({ fleet }) {
  const services = [...fleet.services.values()];
  const hosts = [...fleet.hosts.values()];
  const tasks = [...fleet.tasks.values()];
  if (!hosts.length && !tasks.length) return [heading(fleet.cluster), firstSteps(fleet)];
  const running = tasks.filter((task) => task.lastStatus === "RUNNING").length;
  const stopped = tasks.filter((task) => task.lastStatus === "STOPPED").length;
  const isGood = (badge) => badge.classList.contains("good");
  const steady = services.filter((one) => isGood(serviceStatus(one))).length;
  const connected = hosts.filter((host) => host.agentConnected).length;
  return [
    heading(fleet.cluster),
    h("div", { class: "tiles" },
      tile("Services", steady, services.length, "steady", place(fleet.cluster, ["services"])),
      tile("Tasks", running, tasks.length - stopped, "running", place(fleet.cluster, ["tasks"])),
      tile("Hosts", connected, hosts.length, "connected", place(fleet.cluster, ["hosts"]))),
    capacity(fleet, hosts),
    section("Needs attention", troubles(fleet, services, hosts, tasks)),
    section("Events of services", events(fleet, services)),
  ];
}

function firstSteps(fleet) {
  return empty(
    "This cluster is empty. Join a host, then run something:",
    `sudo ecs-agent join ${location.origin} --token-file agent.tokens${fleet.cluster === "default" ? "" : ` --cluster ${fleet.cluster}`}`,
    `aws ecs run-task --cluster ${fleet.cluster} --task-definition NAME`,
  );
}

function tile(title, part, whole, what, href) {
  const isAll = part === whole;
  return h("a", { class: isAll ? "tile" : "tile partly", href },
    h("span", { class: "tile-title" }, title),
    h("span", { class: "tile-number" }, String(part), !isAll && h("small", null, ` of ${whole}`)),
    h("span", { class: "quiet" }, whole === 0 ? "none yet" : isAll ? `all ${what}` : what));
}

function capacity(fleet, hosts) {
  const sum = { cpu: { whole: 0, booked: 0, used: 0 }, memory: { whole: 0, booked: 0, used: 0, all: 0 }, gpus: { whole: 0, booked: 0 } };
  let measured = 0;
  for (const host of hosts) {
    const load = loadOf(fleet, host);
    measured += load.cpu.used !== null;
    sum.cpu.whole += load.cpu.whole;
    sum.cpu.booked += load.cpu.booked;
    sum.cpu.used += load.cpu.used ?? 0;
    sum.memory.whole += load.memory.wholeUsed ?? load.memory.whole;
    sum.memory.booked += load.memory.booked;
    sum.memory.used += load.memory.used ?? 0;
    sum.gpus.whole += load.gpus.whole;
    sum.gpus.booked += load.gpus.booked;
  }
  if (!hosts.length) return null;
  const used = (value) => (measured ? value : null);
  return section(
    "Capacity",
    h("div", { class: "bars" },
      bar("CPU", { whole: sum.cpu.whole, booked: sum.cpu.booked, used: used(sum.cpu.used),
        text: `${cpus(sum.cpu.booked)} booked, ${measured ? cpus(sum.cpu.used) : "–"} used, of ${cpus(sum.cpu.whole)}` }),
      bar("Memory", { whole: sum.memory.whole, booked: sum.memory.booked, used: used(sum.memory.used),
        text: `${mib(sum.memory.booked)} booked, ${measured ? mib(sum.memory.used) : "–"} used, of ${mib(sum.memory.whole)}` }),
      sum.gpus.whole > 0 && bar("GPUs", { whole: sum.gpus.whole, booked: sum.gpus.booked, text: `${sum.gpus.booked} of ${sum.gpus.whole} booked` })),
    h("p", { class: "legend" }, h("b", { class: "used" }), "used", h("b", { class: "booked" }, h("b", { class: "mark" })), "booked"),
  );
}

function troubles(fleet, services, hosts, tasks) {
  const isBad = (badge) => badge.classList.contains("bad");
  const found = [
    ...hosts.filter((host) => isBad(hostStatus(host))).map((host) => {
      const id = last(host.containerInstanceArn);
      return trouble(id, ["hosts", id], fleet, fleet.hostName(id), hostStatus(host), `Host with ${count(host.runningTasksCount, "task")}`);
    }),
    ...services.filter((one) => isBad(serviceStatus(one))).map((one) =>
      trouble(`service ${one.serviceName}`, ["services", one.serviceName], fleet, one.serviceName, serviceStatus(one),
        one.deployments?.find((each) => each.rolloutState === "FAILED")?.rolloutStateReason ?? `${one.runningCount} of ${one.desiredCount} tasks run`)),
    ...tasks
      .filter((task) => isBad(taskStatus(task)) && !(task.stoppedAt < now() - RECENT_S))
      .sort((one, other) => (other.stoppedAt ?? Infinity) - (one.stoppedAt ?? Infinity))
      .map((task) =>
        trouble(last(task.taskArn), ["tasks", last(task.taskArn)], fleet, definitionName(task.taskDefinitionArn), taskStatus(task), why(task), task.stoppedAt)),
  ];
  if (!found.length) return h("p", { class: "calm" }, "Nothing. All hosts are connected, and no task has failed within an hour.");
  return [
    h("ul", { class: "troubles" }, found.slice(0, TROUBLES_MOST)),
    found.length > TROUBLES_MOST && h("p", { class: "quiet" }, `and ${found.length - TROUBLES_MOST} more`),
  ];
}

function trouble(key, parts, fleet, name, badge, text, at) {
  return h("li", { "data-key": key },
    badge, h("a", { href: place(fleet.cluster, parts) }, name), h("span", { class: "trouble-text" }, text), at ? time(at) : null);
}

function events(fleet, services) {
  const found = services
    .flatMap((one) => (one.events ?? []).slice(0, EVENTS_MOST).map((event) => ({ ...event, service: one.serviceName })))
    .sort((one, other) => other.createdAt - one.createdAt)
    .slice(0, EVENTS_MOST);
  if (!found.length) return h("p", { class: "quiet" }, "No service has told anything yet.");
  return h("ol", { class: "events" }, found.map((one) =>
    h("li", { "data-key": one.id },
      time(one.createdAt),
      h("span", null,
        h("a", { href: place(fleet.cluster, ["services", one.service]) }, one.service), " ",
        eventText(fleet, one.service, one.message)))));
}
