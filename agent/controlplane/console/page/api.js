// Calls of control: the APIs of AWS that it serves, and its own. Each is signed if somebody is signed in.

import { now } from "./text.js";

const TARGETS = {
  ecs: ["AmazonEC2ContainerServiceV20141113", "ecs", "1.1"],
  logs: ["Logs_20140328", "logs", "1.1"],
  cloudwatch: ["GraniteServiceVersion20100801", "monitoring", "1.0"],
};
const LIMIT_MS = 60_000;
/** After how long without a line a stream is given up: control sends one every 15 seconds. */
const SILENT_MS = 40_000;

/** Control has refused a call. */
export class Refused extends Error {
  constructor(status, name, message) {
    super(message);
    this.status = status;
    this.code = name;
  }

  /** Whether another key, or the right one, would help. */
  get isAboutKeys() {
    return /MissingAuthenticationToken|UnrecognizedClient|InvalidSignature|IncompleteSignature|Signature/.test(this.code) ||
      (this.code === "" && this.status === 400 && /Authentication Token|security token|signature/i.test(this.message));
  }
}

export class Api {
  /** @param {import("./sign.js").Signer | null} signer null where no key is needed. */
  constructor(signer) {
    this.signer = signer;
  }

  /** Return the answer of an operation of AWS; raises `Refused`, or what `fetch` raises. */
  async call(service, operation, request) {
    const [prefix, name, version] = TARGETS[service];
    const headers = {
      "content-type": `application/x-amz-json-${version}`,
      "x-amz-target": `${prefix}.${operation}`,
    };
    return (await this.post(name, "/", headers, request, AbortSignal.timeout(LIMIT_MS))).json();
  }

  /** Return the answer of a call of control's own. */
  async own(path, request) {
    const headers = { "content-type": "application/json" };
    return (await this.post("ecs", path, headers, request, AbortSignal.timeout(LIMIT_MS))).json();
  }

  /** Yield what a stream of control's own tells; null for a sign of life. */
  async *stream(path, request, signal) {
    const silent = new AbortController();
    let timer = setTimeout(() => silent.abort(), SILENT_MS);
    try {
      const both = AbortSignal.any([signal, silent.signal]);
      const answer = await this.post("ecs", path, { "content-type": "application/json" }, request, both);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => silent.abort(), SILENT_MS);
        const lines = (rest + value).split("\n");
        rest = lines.pop();
        for (const line of lines) yield line ? JSON.parse(line) : null;
      }
    } finally {
      clearTimeout(timer);
      silent.abort();
    }
  }

  async post(service, path, headers, request, signal) {
    const body = JSON.stringify(request);
    const sent = this.signer ? await this.signer.headers(service, path, headers, body, now()) : headers;
    const answer = await fetch(path, {
      method: "POST", headers: sent, body, signal, cache: "no-store", credentials: "omit", redirect: "error",
    });
    if (answer.ok) return answer;
    const text = await answer.text();
    let told = {};
    try {
      told = JSON.parse(text);
    } catch {
      told = { message: text.trim() };
    }
    const code = (told.__type ?? "").split("#").at(-1);
    throw new Refused(answer.status, code, told.message || told.Message || `control answered ${answer.status}`);
  }
}
