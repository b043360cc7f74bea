// A terminal in a container, over the WebSocket of a session of ExecuteCommand: what it shows, and what is typed.
//
// The session lasts as long as its view is shown. The text of a command never becomes markup, and colours are set by
// scripts, which the content security policy allows.

import { h } from "./dom.js";
import { pasted, sentBy } from "./keyboard.js";
import { Screen } from "./screen.js";

const SCROLLED_MOST = 2000;
/** How much input may be under way that the command has not read; as control has it. */
const WINDOW_BYTES = 64 * 1024;
const PIECE_BYTES = 16 * 1024;
const ENDED = "ended";
const LEAVE = "Ctrl+F6 leaves the terminal.";
const encoder = new TextEncoder();

export class TerminalView {
  /**
   * @param {import("./api.js").Api} api
   * @param {{cluster: string, task: string, container: string}} where
   */
  constructor(api, where) {
    this.api = api;
    this.where = where;
    this.command = h("input", {
      type: "text", value: "/bin/sh", "aria-label": "Command", autocomplete: "off", autocapitalize: "off", spellcheck: "false",
    });
    this.toggle = h("button", { type: "submit" }, "Close");
    this.history = h("div", { class: "term-history" });
    this.shown = h("div", { class: "term-screen" });
    this.keys = h("textarea", {
      class: "term-keys", "aria-label": `Terminal of ${where.container}. ${LEAVE}`, autocomplete: "off", autocapitalize: "off",
      autocorrect: "off", spellcheck: "false", rows: "1",
    });
    this.ruler = h("span", { class: "term-ruler", "aria-hidden": "true" }, "M".repeat(20));
    this.box = h("div", { class: "term" }, this.history, this.shown, this.ruler);
    this.note = h("p", { class: "quiet log-note", role: "status" });
    this.form = h("form", { class: "log-bar", "data-do": "terminal" }, this.command, this.toggle);
    this.element = h("div", { class: "log", "data-own": true }, this.form, h("div", { class: "term-place" }, this.box, this.keys), this.extraKeys(), this.note);
    this.socket = null;
    this.listen();
    this.begin();
    this.timer = setTimeout(() => this.start()); // once it is in the page, and has a size
  }

  /** Keys that keyboards on glass do not have. */
  extraKeys() {
    const keys = [["Esc", "\x1b"], ["Tab", "\t"], ["Ctrl-C", "\x03"], ["Ctrl-D", "\x04"], ["↑", "\x1b[A"], ["↓", "\x1b[B"]];
    const buttons = keys.map(([name, text]) => {
      const button = h("button", { type: "button", tabindex: "-1" }, name);
      button.addEventListener("click", () => {
        this.type(text);
        this.keys.focus();
      });
      return button;
    });
    return h("div", { class: "term-extra" }, buttons);
  }

  /** End the session for good. */
  stop() {
    clearTimeout(this.timer);
    this.resizing.disconnect();
    this.close("");
  }

  listen() {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.state === ENDED) this.start();
      else this.close("You have closed the terminal; the command was ended.");
    });
    this.box.addEventListener("mouseup", () => {
      if (document.getSelection().isCollapsed) this.keys.focus({ preventScroll: true });
    });
    this.keys.addEventListener("keydown", (event) => this.pressed(event));
    this.keys.addEventListener("input", (event) => {
      if (event.isComposing) return;
      this.type(this.keys.value);
      this.keys.value = "";
    });
    this.keys.addEventListener("compositionend", () => {
      this.type(this.keys.value);
      this.keys.value = "";
    });
    this.keys.addEventListener("paste", (event) => {
      event.preventDefault();
      this.type(pasted(event.clipboardData.getData("text"), this.screen.hasBrackets));
    });
    for (const name of ["focus", "blur"]) this.keys.addEventListener(name, () => this.draw());
    this.resizing = new ResizeObserver(() => this.fit());
    this.resizing.observe(this.box);
  }

  /** Show nothing, as before a session. */
  begin() {
    this.state = ENDED;
    this.isAtEnd = true;
    this.waiting = [];
    this.unread = 0;
    this.kept = [];
    this.decoder = new TextDecoder();
    this.screen = new Screen(24, 80, {
      answer: (text) => this.type(text),
      scrolled: (row) => this.keep(row),
      title: () => {},
    });
    this.history.replaceChildren();
    this.shown.replaceChildren();
  }

  async start() {
    this.begin();
    this.state = "calling";
    this.toggle.textContent = "Close";
    this.note.textContent = "Connecting…";
    this.fit();
    this.keys.focus({ preventScroll: true });
    const { cluster, task, container } = this.where;
    const asked = { cluster, task, container, command: this.command.value, interactive: true };
    try {
      const { session } = await this.api.call("ecs", "ExecuteCommand", asked);
      if (this.state === "calling") this.connect(session);
    } catch (error) {
      this.close(error.message);
    }
  }

  connect(session) {
    // The page's own address is the one that the browser reaches.
    const url = new URL(new URL(session.streamUrl).pathname, location.href);
    url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.binaryType = "arraybuffer";
    socket.addEventListener("open", () => {
      this.state = "open";
      socket.send(JSON.stringify({ TokenValue: session.tokenValue, Speaks: "exec", Terminal: this.size() }));
      this.note.textContent = LEAVE;
      this.feed();
    });
    socket.addEventListener("message", ({ data }) => {
      if (socket !== this.socket) return;
      if (typeof data === "string") this.told(JSON.parse(data));
      else this.write(new Uint8Array(data, 1));
    });
    socket.addEventListener("close", ({ reason }) => {
      if (socket === this.socket) this.close(reason || "The connection to control is lost; the command was ended.");
    });
  }

  told(message) {
    if (message.type === "inputTaken") {
      this.unread -= message.size_bytes;
      this.feed();
    } else if (message.type === "exited") this.close(message.code ? `The command ended with exit code ${message.code}.` : "The command has ended.");
    else this.close(message.message);
  }

  close(why) {
    const { socket } = this;
    this.socket = null;
    socket?.close();
    this.state = ENDED;
    this.waiting = [];
    this.toggle.textContent = "Open again";
    if (why) this.note.textContent = why.charAt(0).toUpperCase() + why.slice(1);
    this.draw();
  }

  // What is typed.

  pressed(event) {
    if (event.key === "F6" && event.ctrlKey) {
      event.preventDefault();
      this.command.focus();
      return;
    }
    if (event.ctrlKey && event.key.toLowerCase() === "c" && !document.getSelection().isCollapsed) return; // it copies
    const text = sentBy(event, this.screen.hasCursorKeys);
    if (text === null) return;
    event.preventDefault();
    this.type(text);
  }

  type(text) {
    if (this.state === ENDED || !text) return;
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length; at += PIECE_BYTES) this.waiting.push(bytes.slice(at, at + PIECE_BYTES));
    this.isAtEnd = true;
    this.feed();
  }

  /** Send what waits, as far as the command has read what was sent. */
  feed() {
    while (this.state === "open" && this.waiting.length && this.unread + this.waiting[0].length <= WINDOW_BYTES) {
      const piece = this.waiting.shift();
      this.unread += piece.length;
      this.socket.send(piece);
    }
  }

  // The size.

  size() {
    return { rows: this.screen.rows, columns: this.screen.columns };
  }

  /** Give the terminal as many rows and columns as there is room for. */
  fit() {
    const { width, height } = this.ruler.getBoundingClientRect();
    if (!width) return;
    const style = getComputedStyle(this.box);
    const inner = this.box.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const columns = Math.min(Math.max(Math.floor(inner / (width / 20)), 2), 500);
    const rows = Math.min(Math.max(Math.floor((this.box.clientHeight - 2 * parseFloat(style.paddingTop)) / height), 2), 200);
    this.box.dataset.size = `${rows}x${columns}`;
    if (rows === this.screen.rows && columns === this.screen.columns) return;
    this.screen.resize(rows, columns);
    if (this.state === "open") this.socket.send(JSON.stringify({ type: "resize", size: this.size() }));
    this.draw();
  }

  // What is shown.

  write(bytes) {
    const { box } = this;
    if (!this.isWanted) this.isAtEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
    this.screen.write(this.decoder.decode(bytes, { stream: true }));
    this.draw();
  }

  /** Keep a row that has left the screen; of many, only the newest are ever made elements. */
  keep(row) {
    this.kept.push(row);
    if (this.kept.length > 2 * SCROLLED_MOST) this.kept.splice(0, SCROLLED_MOST);
  }

  /** Show what has changed with the next picture of the browser. */
  draw() {
    this.screen.dirty.add(this.screen.row);
    if (this.isWanted) return;
    this.isWanted = true;
    requestAnimationFrame(() => {
      this.isWanted = false;
      this.drawNow();
    });
  }

  drawNow() {
    const { screen, shown, box, history } = this;
    const hasFocus = document.activeElement === this.keys;
    box.classList.toggle("focused", hasFocus);
    box.classList.toggle("ended", this.state === ENDED);
    while (shown.childElementCount > screen.rows) shown.lastChild.remove();
    while (shown.childElementCount < screen.rows) {
      screen.dirty.add(shown.childElementCount);
      shown.append(h("div"));
    }
    for (const at of screen.dirty) {
      if (at >= screen.rows) continue;
      const cursor = at === screen.row && screen.hasCursor && this.state !== ENDED ? screen.column : -1;
      shown.children[at].replaceWith(line(screen.lines[at], cursor));
    }
    screen.dirty.clear();
    history.append(...this.kept.slice(-SCROLLED_MOST).map((row) => line(trimmed(row), -1)));
    this.kept = [];
    while (history.childElementCount > SCROLLED_MOST) history.firstChild.remove();
    if (this.isAtEnd) box.scrollTop = box.scrollHeight;
  }
}

/** Return a row without the spaces at its end, which would make it wider than a terminal that is narrower now. */
function trimmed(cells) {
  let end = cells.length;
  while (end > 0 && cells[end - 1].text === " " && !Object.keys(cells[end - 1].style).length) end -= 1;
  return cells.slice(0, end);
}

/** Return a row: its cells of one style together, each unusual character by itself, so that all stand in columns. */
function line(cells, cursor) {
  const row = h("div");
  let run = null;
  cells.forEach((cell, at) => {
    if (cell.text === "") return;
    const isAlone = at === cursor || cell.isWide || cell.text > "~" || cell.text.length > 1;
    if (!run || isAlone || run.isAlone || run.style !== cell.style) {
      run = { style: cell.style, isAlone, element: part(cell, at === cursor) };
      row.append(run.element);
    }
    run.element.firstChild.data += cell.text;
  });
  // An empty row has a height, too.
  if (!row.textContent.trimEnd() && cursor < 0 && !row.querySelector("[class]")) row.replaceChildren("\u00a0");
  return row;
}

function part({ style, isWide, text }, isCursor) {
  const element = document.createElement("span");
  element.append(document.createTextNode(""));
  const back = style.isInverse ? style.text ?? "front" : style.back;
  const front = style.isInverse ? style.back ?? "behind" : style.text;
  const classes = [
    isWide && "wide", !isWide && (text > "~" || text.length > 1) && "one", isCursor && "cursor",
    ...["isBold", "isFaint", "isItalic", "isUnderlined", "isStruck", "isHidden"].map((name) => style[name] && name.slice(2).toLowerCase()),
    named("text", front), named("back", back),
  ].filter(Boolean);
  if (classes.length) element.className = classes.join(" ");
  const [frontColour, backColour] = [mixed(front), mixed(back)];
  if (frontColour) element.style.color = frontColour;
  if (backColour) element.style.backgroundColor = backColour;
  return element;
}

/** Return the class of one of the sixteen colours that a theme has, or of the page's own two. */
function named(place, colour) {
  return typeof colour === "string" ? (colour.startsWith("#") ? null : `${place}-${colour}`) : colour < 16 ? `${place}-${colour}` : null;
}

/** Return any other colour as the browser has it. */
function mixed(colour) {
  if (typeof colour === "string") return colour.startsWith("#") ? colour : null;
  if (colour === undefined || colour < 16) return null;
  if (colour >= 232) return `rgb(${Array(3).fill(8 + 10 * (colour - 232)).join(" ")})`;
  const level = (step) => (step ? 55 + 40 * step : 0);
  const at = colour - 16;
  return `rgb(${level(Math.floor(at / 36))} ${level(Math.floor(at / 6) % 6)} ${level(at % 6)})`;
}
