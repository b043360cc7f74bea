// What one view needs besides the cluster: definitions, deployments and figures of an hour. Read when it is shown.

import { now } from "./text.js";

export const SPAN_S = 3600;
const FIGURES_EVERY_S = 60;
const KEPT_MOST = 50;

export class Details {
  /** @param {() => void} changed called when something was read, to be shown. */
  constructor(api, changed) {
    this.api = api;
    this.changed = changed;
    this.found = new Map();
  }

  /**
   * Return what was read by a name, `{value, error}`, and read it if it is missing, older than `olderThanS`, or of
   * another `version`. Both members are null until it was read.
   */
  get(name, read, { olderThanS = Infinity, version = "" } = {}) {
    let one = this.found.get(name);
    if (!one) {
      one = { value: null, error: null, at: 0, version: null, isBusy: false };
      this.found.set(name, one);
      if (this.found.size > KEPT_MOST) this.found.delete(this.found.keys().next().value);
    }
    if (!one.isBusy && (one.version !== version || now() - one.at > olderThanS)) this.read(one, read, version);
    return one;
  }

  async read(one, read, version) {
    one.isBusy = true;
    try {
      one.value = await read();
      one.error = null;
    } catch (error) {
      one.error = error;
    }
    one.isBusy = false;
    one.at = now();
    one.version = version;
    this.changed();
  }

  /** Return a task definition, which never changes. */
  definition(arn) {
    return this.get(`definition ${arn}`, async () => {
      const answer = await this.api.call("ecs", "DescribeTaskDefinition", { taskDefinition: arn });
      return answer.taskDefinition;
    });
  }

  /** Return the newest service deployments of a service, newest first; anew if the service has changed. */
  rollouts(cluster, service) {
    const version = JSON.stringify(service.deployments?.map((one) => [one.id, one.rolloutState, one.updatedAt]));
    return this.get(
      `rollouts ${cluster}/${service.serviceName}`,
      async () => {
        const listed = await this.api.call("ecs", "ListServiceDeployments", {
          cluster, service: service.serviceName, maxResults: 20,
        });
        return listed.serviceDeployments;
      },
      { version },
    );
  }

  /**
   * Return figures of the last hour by their ids, each a list of `{at, value}`; anew each minute.
   *
   * @param {string} name of what they are figures of.
   * @param {Array<{id, namespace, metric, dimensions}>} wanted
   */
  figures(name, wanted) {
    return this.get(
      `figures ${name}`,
      async () => {
        const end = Math.ceil(now() / 60) * 60;
        const answer = await this.api.call("cloudwatch", "GetMetricData", {
          StartTime: end - SPAN_S, EndTime: end, ScanBy: "TimestampAscending",
          MetricDataQueries: wanted.map(({ id, namespace, metric, dimensions }) => ({
            Id: id,
            MetricStat: {
              Metric: {
                Namespace: namespace, MetricName: metric,
                Dimensions: Object.entries(dimensions).map(([Name, Value]) => ({ Name, Value })),
              },
              Period: 60, Stat: "Average",
            },
          })),
        });
        return Object.fromEntries(
          answer.MetricDataResults.map((one) => [
            one.Id, one.Timestamps.map((at, i) => ({ at: Number(at), value: one.Values[i] })),
          ]),
        );
      },
      { olderThanS: FIGURES_EVERY_S },
    );
  }
}
