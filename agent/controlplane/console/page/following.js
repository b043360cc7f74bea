// Follows one stream of changes for as long as somebody looks: connects again when it breaks, and stops while the
// page is hidden.

import { Refused } from "./api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
const HIDDEN_MS = 5_000;

export class Following {
  /**
   * @param {import("./api.js").Api} api
   * @param {string | null} cluster its name; null for all.
   * @param {object} told `line(line)` for each line, `state(state)` with "live" or "away", `refused(error)`.
   */
  constructor(api, cluster, told) {
    this.api = api;
    this.cluster = cluster;
    this.told = told;
    this.place = null;
    this.connection = null;
    this.hiding = null;
    this.isOver = false;
    this.onVisible = () => this.seen();
    document.addEventListener("visibilitychange", this.onVisible);
    this.seen();
  }

  /** End it for good. */
  stop() {
    this.isOver = true;
    document.removeEventListener("visibilitychange", this.onVisible);
    clearTimeout(this.hiding);
    this.disconnect();
  }

  /** Forget what the reader has: the next line comes with `isStart`. */
  restart() {
    this.place = null;
    this.disconnect();
    this.seen();
  }

  seen() {
    clearTimeout(this.hiding);
    if (document.hidden) {
      this.hiding = setTimeout(() => this.disconnect(), HIDDEN_MS);
    } else if (this.connection === null && !this.isOver) {
      this.connection = new AbortController();
      this.run(this.connection.signal);
    }
  }

  disconnect() {
    this.connection?.abort();
    this.connection = null;
  }

  async run(signal) {
    let waitMs = FIRST_WAIT_MS;
    while (!signal.aborted) {
      try {
        let isFirst = true;
        const asked = { cluster: this.cluster, after: this.place };
        for await (const line of this.api.stream("/control/changes", asked, signal)) {
          if (signal.aborted) return;
          waitMs = FIRST_WAIT_MS;
          if (isFirst) this.told.state("live");
          if (line !== null) {
            const isStart = this.place === null || line.isGap === true;
            this.place = line.place;
            this.told.line({ ...line, isStart });
          }
          isFirst = false;
        }
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof Refused && error.status < 500) {
          this.disconnect();
          this.told.refused(error);
          return;
        }
      }
      this.told.state("away");
      await new Promise((resolve) => setTimeout(resolve, waitMs * (0.5 + Math.random() / 2)));
      waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
    }
  }
}
