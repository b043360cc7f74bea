// The log of one container, from control's log store: its newest lines, older ones on request, and new ones.

import { h } from "./dom.js";
import { ago, moment, timeOfDay } from "./text.js";

const FIRST_LINES = 300;
const NEXT_MS = 1500;
const LINES_MOST = 5000;

/** Return where the log of a container is; a sentence instead if it is not with control. */
export function logOf(definition, container, taskId) {
  const defined = definition.containerDefinitions.find((one) => one.name === container.name);
  const { logDriver, options = {} } = defined?.logConfiguration ?? {};
  if (logDriver !== "awslogs") {
    return { missing: logDriver
      ? `This container logs with ${logDriver}, which control does not read.`
      : "This container has no logConfiguration. With the log driver awslogs, its log would be here." };
  }
  const prefix = options["awslogs-stream-prefix"];
  const stream = prefix ? `${prefix}/${container.name}/${taskId}` : container.runtimeId;
  if (!stream) return { missing: "The container has not been created yet." };
  return { group: options["awslogs-group"], stream };
}

export class LogView {
  /** @param {HTMLElement} host an element that is left to this view; it is its name, too. */
  constructor(api, { group, stream }) {
    this.api = api;
    this.asked = { logGroupName: group, logStreamName: stream };
    this.lines = h("ol", { class: "log-lines", tabindex: "0", "aria-label": "Lines of the log" });
    this.note = h("p", { class: "quiet log-note", role: "status" }, "Reading…");
    this.older = h("button", { type: "button", hidden: true }, "Older lines");
    this.toEnd = h("button", { type: "button", hidden: true }, "Newest lines");
    this.search = h("input", {
      type: "search", placeholder: "Filter lines", "aria-label": "Filter lines", autocomplete: "off", spellcheck: "false",
    });
    this.element = h(
      "div", { class: "log", "data-own": true },
      h("div", { class: "log-bar" }, this.search, this.older, this.toEnd), this.lines, this.note,
    );
    this.older.addEventListener("click", () => this.readOlder());
    this.toEnd.addEventListener("click", () => this.scrollToEnd());
    this.search.addEventListener("input", () => this.filter());
    this.lines.addEventListener("scroll", () => this.noteScroll(), { passive: true });
    this.isOver = false;
    this.isAtEnd = true;
    this.timer = setTimeout(() => this.run()); // once it is in the page
  }

  /** Read no more. */
  stop() {
    this.isOver = true;
    clearTimeout(this.timer);
  }

  async run() {
    if (this.isOver) return;
    if (!document.hidden && this.element.isConnected) {
      try {
        await this.readNew();
      } catch (error) {
        this.tell(error);
      }
    }
    this.timer = setTimeout(() => this.run(), NEXT_MS);
  }

  async readNew() {
    if (!this.forward) {
      const page = await this.read({ limit: FIRST_LINES, startFromHead: false });
      this.forward = page.nextForwardToken;
      this.backward = page.nextBackwardToken;
      this.older.hidden = page.events.length < FIRST_LINES;
      this.append(page.events);
    } else {
      for (;;) {
        const page = await this.read({ nextToken: this.forward, startFromHead: true });
        const isEnd = page.nextForwardToken === this.forward || page.events.length === 0;
        this.forward = page.nextForwardToken;
        this.append(page.events);
        if (isEnd || this.isOver) break;
      }
    }
    this.newest ??= null;
    this.note.textContent = this.newest
      ? `Newest line ${ago(this.newest / 1000)}. New lines appear here.`
      : "The container has written nothing yet. New lines appear here.";
  }

  async readOlder() {
    this.older.disabled = true;
    try {
      const page = await this.read({ nextToken: this.backward, startFromHead: false });
      if (page.nextBackwardToken === this.backward || page.events.length === 0) this.older.hidden = true;
      this.backward = page.nextBackwardToken;
      const before = this.lines.scrollHeight;
      this.lines.prepend(...page.events.map((one) => this.line(one)));
      this.lines.scrollTop += this.lines.scrollHeight - before;
    } catch (error) {
      this.tell(error);
    }
    this.older.disabled = false;
  }

  read(request) {
    return this.api.call("logs", "GetLogEvents", { ...this.asked, ...request });
  }

  append(events) {
    if (!events.length) return;
    this.newest = events.at(-1).timestamp;
    this.lines.append(...events.map((one) => this.line(one)));
    while (this.lines.childElementCount > LINES_MOST) this.lines.firstChild.remove();
    if (this.isAtEnd) this.scrollToEnd();
  }

  line({ timestamp, message }) {
    const item = h(
      "li", null,
      h("time", { datetime: new Date(timestamp).toISOString(), title: moment(timestamp / 1000) }, timeOfDay(timestamp)),
      h("span", null, message),
    );
    item.hidden = !this.isShown(item);
    return item;
  }

  isShown(item) {
    return item.lastChild.textContent.toLowerCase().includes(this.search.value.toLowerCase());
  }

  filter() {
    for (const item of this.lines.children) item.hidden = !this.isShown(item);
    if (this.isAtEnd) this.scrollToEnd();
  }

  noteScroll() {
    const { scrollTop, clientHeight, scrollHeight } = this.lines;
    this.isAtEnd = scrollHeight - scrollTop - clientHeight < 24;
    this.toEnd.hidden = this.isAtEnd;
  }

  scrollToEnd() {
    this.lines.scrollTop = this.lines.scrollHeight;
  }

  tell(error) {
    const isMissing = error.code === "ResourceNotFoundException";
    this.note.textContent = isMissing ? "The container has written nothing yet. New lines appear here." : error.message;
  }
}
