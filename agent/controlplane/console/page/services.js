// The services of a cluster, and one service with its deployments, events, figures and tasks.

import { h } from "./dom.js";
import {
  definitionName, empty, eventText, facts, filters, matches, NONE, place, section, serviceStatus, status, table, time,
} from "./parts.js";
import { figures, heading, newestFirst, tally, taskTable } from "./tasks.js";
import { count, last, percent, word } from "./text.js";

const EVENTS_MOST = 30;
const STATES = {
  all: () => true,
  steady: (service) => serviceStatus(service).classList.contains("good"),
  moving: (service) => serviceStatus(service).classList.contains("busy"),
  trouble: (service) => serviceStatus(service).classList.contains("bad"),
};

/** Return the view of all services. */
export function servicesView({ fleet, route }) {
  const all = [...fleet.services.values()].sort((one, other) => one.serviceName.localeCompare(other.serviceName));
  const state = STATES[route.query.get("status")] ?? STATES.all;
  const found = all.filter(
    (one) => state(one) && matches(route.query.get("q"), [one.serviceName, definitionName(one.taskDefinition), one.status]),
  );
  return [
    heading("Services", `${found.length} of ${all.length}`),
    filters(route.query, {
      label: "Filter by name or definition",
      choices: [{
        name: "status", label: "Status",
        options: [["all", "All"], ["steady", "Steady"], ["moving", "Changing"], ["trouble", "In trouble"]],
      }],
    }),
    found.length
      ? serviceTable(fleet, found, route.query)
      : all.length
        ? empty("No service matches.")
        : empty(
            "No services here yet. Create one:",
            `aws ecs create-service --cluster ${fleet.cluster} --service-name web --task-definition NAME --desired-count 2`,
          ),
  ];
}

function serviceTable(fleet, services, query) {
  const columns = [
    {
      id: "name", label: "Service", value: (one) => one.serviceName,
      cell: (one) => h("a", { href: place(fleet.cluster, ["services", one.serviceName]) }, one.serviceName),
    },
    { id: "status", label: "Status", cell: serviceStatus },
    {
      id: "tasks", label: "Running / wanted", right: true, value: (one) => one.runningCount,
      cell: (one) => `${one.runningCount} / ${one.desiredCount}`,
    },
    {
      id: "definition", label: "Definition", value: (one) => definitionName(one.taskDefinition),
      cell: (one) => definitionName(one.taskDefinition) || NONE,
    },
    {
      id: "deployed", label: "Last deployment", right: true, value: (one) => newestDeployment(one)?.createdAt,
      cell: (one) => time(newestDeployment(one)?.createdAt),
    },
    {
      id: "event", label: "Last event", wide: true,
      cell: (one) => h("span", { class: "event-text" }, one.events?.[0] ? eventText(fleet, one.serviceName, one.events[0].message) : NONE),
    },
  ];
  return table({ caption: "Services", columns, rows: services, keyOf: (one) => one.serviceName, query });
}

function newestDeployment(service) {
  return (service.deployments ?? []).toSorted((one, other) => other.createdAt - one.createdAt)[0];
}

/** Return the view of one service. */
export function serviceView(app) {
  const { fleet, route, details } = app;
  const service = fleet.services.get(route.parts[1]);
  if (!service) return [heading("Service", route.parts[1]), empty("There is no such service any more.")];
  const tasks = newestFirst(fleet.tasksOf({ service: service.serviceName }));
  const active = tasks.filter((task) => task.lastStatus !== "STOPPED");
  const stopped = tasks.filter((task) => task.lastStatus === "STOPPED").slice(0, 20);
  const dimensions = { ClusterName: fleet.cluster, ServiceName: service.serviceName };
  const found = details.figures(`service ${service.serviceArn}`, [
    { id: "cpu", namespace: "AWS/ECS", metric: "CPUUtilization", dimensions },
    { id: "memory", namespace: "AWS/ECS", metric: "MemoryUtilization", dimensions },
  ]);
  const share = (value) => percent(value / 100);
  return [
    heading(service.serviceName, serviceStatus(service)),
    facts([
      ["Tasks", [`${service.runningCount} running`, service.pendingCount ? `${service.pendingCount} starting` : null, `${service.desiredCount} wanted`].filter(Boolean).join(", ")],
      ["Definition", definitionName(service.taskDefinition)],
      ["Strategy", word(service.schedulingStrategy)],
      ["Runs on", service.capacityProviderStrategy?.map((one) => one.capacityProvider).join(", ") || service.launchType],
      ["Load balancer", service.loadBalancers?.map((one) => last(one.targetGroupArn ?? "") && one.targetGroupArn.split("/").at(-2)).filter(Boolean).join(", ")],
      ["Created", time(service.createdAt)],
    ]),
    section("Deployments", deployments(service), past(details.rollouts(fleet.cluster, service))),
    section("Figures", figures(found, [["CPU of what is reserved", "cpu", share], ["Memory of what is reserved", "memory", share]])),
    section("Tasks", active.length ? [h("p", { class: "quiet" }, tally(active)), taskTable(app, active)] : empty("No task of this service runs.")),
    stopped.length > 0 && section("Stopped lately", taskTable(app, stopped)),
    section("Events", events(fleet, service)),
  ];
}

function deployments(service) {
  const tones = { COMPLETED: "good", IN_PROGRESS: "busy", FAILED: "bad" };
  const columns = [
    { id: "definition", label: "Definition", cell: (one) => definitionName(one.taskDefinition) },
    { id: "role", label: "Role", cell: (one) => word(one.status) },
    {
      id: "state", label: "State",
      cell: (one) => [
        status(tones[one.rolloutState] ?? "quiet", word(one.rolloutState ?? one.status)),
        one.rolloutStateReason && h("span", { class: "why" }, one.rolloutStateReason),
      ],
    },
    { id: "tasks", label: "Running / wanted", right: true, cell: (one) => `${one.runningCount} / ${one.desiredCount}` },
    { id: "failed", label: "Failed", right: true, cell: (one) => h("span", { class: one.failedTasks ? "failed" : null }, one.failedTasks ?? 0) },
    { id: "begun", label: "Begun", right: true, cell: (one) => time(one.createdAt) },
  ];
  const rows = service.deployments ?? [];
  if (!rows.length) return empty("This service has no deployment.");
  return table({ caption: "Deployments", columns, rows, keyOf: (one) => one.id, query: null });
}

function past(rollouts) {
  const found = rollouts.value ?? [];
  if (found.length < 2) return null;
  const tones = { SUCCESSFUL: "good", IN_PROGRESS: "busy", PENDING: "busy" };
  return h(
    "details", { class: "past" },
    h("summary", null, count(found.length, "service deployment"), " lately"),
    h("ul", { class: "plain" }, found.map((one) =>
      h("li", { "data-key": one.serviceDeploymentArn },
        status(tones[one.status] ?? (/FAIL|ROLLBACK/.test(one.status) ? "bad" : "quiet"), word(one.status)), " ", time(one.createdAt),
        one.statusReason && h("span", { class: "why" }, one.statusReason)))),
  );
}

function events(fleet, service) {
  const found = (service.events ?? []).slice(0, EVENTS_MOST);
  if (!found.length) return empty("Nothing has happened to this service yet.");
  return h("ol", { class: "events" }, found.map((one) =>
    h("li", { "data-key": one.id }, time(one.createdAt), h("span", null, eventText(fleet, service.serviceName, one.message)))));
}
