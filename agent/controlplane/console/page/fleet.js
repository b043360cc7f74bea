// What the page knows of one cluster. Read once; after that, what control says has changed.

import { Refused } from "./api.js";
import { Following } from "./following.js";
import { last } from "./text.js";

const STOPPED_MOST = 1000;
const PAUSE_MS = 150;
const AT_ONCE = 4;
const KINDS = {
  tasks: { call: "DescribeTasks", member: "tasks", most: 100 },
  services: { call: "DescribeServices", member: "services", most: 10 },
  hosts: { call: "DescribeContainerInstances", member: "containerInstances", most: 100 },
};

export class Fleet {
  /**
   * @param {import("./api.js").Api} api
   * @param {string} cluster its name.
   * @param {() => void} changed called after each change, to be shown.
   * @param {(error: Error) => void} failed called if the cluster cannot be read.
   */
  constructor(api, cluster, changed, failed) {
    this.api = api;
    this.cluster = cluster;
    this.changed = changed;
    this.failed = failed;
    this.tasks = new Map();
    this.services = new Map();
    this.hosts = new Map();
    this.taskFigures = new Map();
    this.hostFigures = new Map();
    this.isLoaded = false;
    this.hasMoreStopped = false;
    this.state = "connecting";
    this.dirty = { tasks: new Set(), services: new Set(), hosts: new Set() };
    this.mustLoad = false;
    this.isBusy = false;
    this.following = new Following(api, cluster, {
      line: (line) => this.take(line),
      state: (state) => {
        this.state = state;
        changed();
      },
      refused: (error) => failed(error),
    });
  }

  /** Stop following it. */
  stop() {
    this.following.stop();
  }

  take(line) {
    if (line.isStart) this.mustLoad = true;
    for (const kind of Object.keys(KINDS)) for (const name of line[kind] ?? []) this.dirty[kind].add(name);
    for (const [id, figures] of Object.entries(line.hostFigures ?? {})) {
      this.hostFigures.set(id, { ...this.hostFigures.get(id), ...figures });
    }
    for (const [id, figures] of Object.entries(line.taskFigures ?? {})) this.taskFigures.set(id, figures);
    if (line.hostFigures || line.taskFigures) this.changed();
    this.work();
  }

  get hasWork() {
    return this.mustLoad || Object.values(this.dirty).some((names) => names.size > 0);
  }

  /** Read what is to be read, one after the other; what comes meanwhile is read after it. */
  async work() {
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      while (this.hasWork && !this.following.isOver) {
        if (this.mustLoad) await this.load();
        else await this.refresh();
        this.changed();
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500) this.failed(error);
      else await again(this.following);
    } finally {
      this.isBusy = false;
    }
  }

  async load() {
    this.mustLoad = false;
    for (const names of Object.values(this.dirty)) names.clear();
    const { cluster } = this;
    const [hosts, services, running, stopped, usage] = await Promise.all([
      this.listed("ListContainerInstances", "containerInstanceArns", { cluster }),
      this.listed("ListServices", "serviceArns", { cluster, maxResults: 100 }),
      this.listed("ListTasks", "taskArns", { cluster, desiredStatus: "RUNNING" }),
      this.listed("ListTasks", "taskArns", { cluster, desiredStatus: "STOPPED" }, STOPPED_MOST),
      this.usage(),
    ]);
    this.hasMoreStopped = stopped.length >= STOPPED_MOST;
    const wanted = { hosts, services, tasks: [...new Set([...running, ...stopped])] };
    for (const kind of Object.keys(KINDS)) {
      const names = wanted[kind].map(last);
      await this.read(kind, names);
      const known = new Set(names);
      for (const name of this[kind].keys()) if (!known.has(name)) this[kind].delete(name);
    }
    this.takeUsage(usage);
    this.isLoaded = true;
  }

  async refresh() {
    for (const kind of Object.keys(KINDS)) {
      const names = [...this.dirty[kind]];
      this.dirty[kind].clear();
      const isNewHost = kind === "hosts" && names.some((name) => !this.hosts.has(name));
      await this.read(kind, names);
      if (isNewHost) this.takeUsage(await this.usage());
    }
  }

  async read(kind, names) {
    const { call, member, most } = KINDS[kind];
    const parts = [];
    for (let at = 0; at < names.length; at += most) parts.push(names.slice(at, at + most));
    const next = async () => {
      for (let part = parts.shift(); part; part = parts.shift()) {
        const request = { cluster: this.cluster, [kind === "hosts" ? "containerInstances" : member]: part };
        const found = (await this.api.call("ecs", call, request))[member];
        const left = new Set(part);
        for (const one of found) {
          if (one.status === "INACTIVE") continue;
          const name = kind === "services" ? one.serviceName : last(one.taskArn ?? one.containerInstanceArn);
          this[kind].set(name, one);
          left.delete(name);
        }
        for (const name of left) this.forget(kind, name);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, next));
  }

  forget(kind, name) {
    this[kind].delete(name);
    if (kind === "tasks") this.taskFigures.delete(name);
    if (kind === "hosts") this.hostFigures.delete(name);
  }

  async listed(operation, member, request, most = Infinity) {
    const found = [];
    let nextToken;
    do {
      const page = await this.api.call("ecs", operation, { ...request, nextToken });
      found.push(...page[member]);
      nextToken = page.nextToken;
    } while (nextToken && found.length < most);
    return found;
  }

  /** Return the newest figures of everything; null for who may not read them. */
  async usage() {
    try {
      return await this.api.own("/control/usage", { cluster: this.cluster });
    } catch (error) {
      if (error instanceof Refused && !error.isAboutKeys) return null;
      throw error;
    }
  }

  takeUsage(usage) {
    for (const host of usage?.hosts ?? []) this.hostFigures.set(host.id, host);
    for (const task of usage?.tasks ?? []) this.taskFigures.set(task.id, task);
  }

  /** Return the name of a host as its owner knows it. */
  hostName(id) {
    return this.hostFigures.get(id)?.hostname || this.hosts.get(id)?.ec2InstanceId || id.slice(0, 8);
  }

  /** Return the tasks of a service, of a host, or all. */
  tasksOf({ service, host }) {
    return [...this.tasks.values()].filter(
      (task) =>
        (!service || task.group === `service:${service}`) && (!host || last(task.containerInstanceArn) === host),
    );
  }
}

/** All clusters with their counts, followed like one. */
export class Clusters {
  constructor(api, changed, failed) {
    this.api = api;
    this.changed = changed;
    this.failed = failed;
    this.clusters = new Map();
    this.isLoaded = false;
    this.state = "connecting";
    this.dirty = new Set();
    this.mustLoad = false;
    this.isBusy = false;
    this.following = new Following(api, null, {
      line: (line) => {
        if (line.isStart) this.mustLoad = true;
        for (const name of line.clusters ?? []) this.dirty.add(name);
        this.work();
      },
      state: (state) => {
        this.state = state;
        changed();
      },
      refused: (error) => failed(error),
    });
  }

  stop() {
    this.following.stop();
  }

  async work() {
    if (this.isBusy) return;
    this.isBusy = true;
    try {
      while ((this.mustLoad || this.dirty.size) && !this.following.isOver) {
        const isAll = this.mustLoad;
        const changed = [...this.dirty];
        this.mustLoad = false;
        this.dirty.clear();
        const names = isAll ? await this.names() : changed;
        const known = new Set(names);
        if (isAll) for (const name of this.clusters.keys()) if (!known.has(name)) this.clusters.delete(name);
        for (let at = 0; at < names.length; at += 100) {
          const clusters = names.slice(at, at + 100);
          const answer = await this.api.call("ecs", "DescribeClusters", { clusters });
          for (const one of answer.clusters) {
            if (one.status === "ACTIVE") this.clusters.set(one.clusterName, one);
            else this.clusters.delete(one.clusterName);
          }
        }
        this.isLoaded = true;
        this.changed();
        // Each count reads all tasks of a cluster.
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    } catch (error) {
      if (error instanceof Refused && error.status < 500) this.failed(error);
      else await again(this.following);
    } finally {
      this.isBusy = false;
    }
  }

  async names() {
    const found = [];
    let nextToken;
    do {
      const page = await this.api.call("ecs", "ListClusters", { nextToken });
      found.push(...page.clusterArns.map(last));
      nextToken = page.nextToken;
    } while (nextToken);
    return found;
  }
}

/** Begin anew after a failure: what was not read is not known. */
async function again(following) {
  await new Promise((resolve) => setTimeout(resolve, 1000));
  if (!following.isOver) following.restart();
}
