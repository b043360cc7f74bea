// The page: who is signed in, which place is shown, and what happens when somebody clicks.
//
// A view is a function of what is known, and returns elements; `show` changes the page into them. Places are in the
// hash of the address, so that each can be linked to: #/c/CLUSTER/tasks/ID?...

import { Api } from "./api.js";
import { Details } from "./details.js";
import { h, morph } from "./dom.js";
import { canSign, enter, entranceView, pasted } from "./entrance.js";
import { Clusters, Fleet } from "./fleet.js";
import { hostsView, hostView } from "./hosts.js";
import { forget, keep, kept } from "./keys.js";
import { LogView } from "./logs.js";
import { clustersView, overviewView } from "./overview.js";
import { layBars, place } from "./parts.js";
import { servicesView, serviceView } from "./services.js";
import { Signer } from "./sign.js";
import { tasksView, taskView } from "./tasks.js";
import { TerminalView } from "./terminal.js";
import { ago, clock } from "./text.js";

const VIEWS = {
  "": [overviewView, overviewView, "Overview"],
  services: [servicesView, serviceView, "Services"],
  tasks: [tasksView, taskView, "Tasks"],
  hosts: [hostsView, hostView, "Hosts"],
};

class App {
  constructor(settings) {
    this.settings = settings;
    this.root = document.getElementById("app");
    this.route = routeOf(location.hash);
    this.api = null;
    this.keyId = null;
    this.fleet = null;
    this.clusters = null;
    this.details = null;
    this.log = null;
    this.terminal = null;
    this.problem = null;
    this.failure = null;
    this.isBusy = false;
    this.isWanted = false;
  }

  /** Begin: with the key that the browser has kept, or without one where none is needed. */
  async begin() {
    addEventListener("hashchange", () => this.moved());
    document.addEventListener("click", (event) => this.clicked(event));
    document.addEventListener("submit", (event) => this.submitted(event));
    document.addEventListener("input", (event) => this.filtered(event));
    document.addEventListener("paste", (event) => this.pasted(event));
    document.addEventListener("keydown", (event) => this.pressed(event));
    setInterval(() => this.tick(), 1000);
    const found = this.settings.signIn === "never" || !canSign() ? null : await kept();
    if (found) this.open(found.keyId, new Signer(found.keyId, found.key, this.settings.region));
    else if (this.settings.signIn !== "needed") this.open(null, null);
    else this.show();
  }

  /** Use a key from now on, or none. */
  open(keyId, signer) {
    this.keyId = keyId;
    this.api = new Api(signer);
    this.details = new Details(this.api, () => this.changed());
    this.clusters = null;
    this.fleet = null;
    this.follow();
    this.show();
  }

  /** Follow what the place shows, and nothing else. */
  follow() {
    const { cluster } = this.route;
    this.failure = null;
    if (this.fleet && this.fleet.cluster !== cluster) {
      this.fleet.stop();
      this.fleet = null;
    }
    if (this.clusters && cluster) {
      this.clusters.stop();
      this.clusters = null;
    }
    if (!this.api) return;
    const changed = () => this.changed();
    const failed = (error) => this.failed(error);
    if (cluster) this.fleet ??= new Fleet(this.api, cluster, changed, failed);
    else this.clusters ??= new Clusters(this.api, changed, failed);
  }

  failed(error) {
    if (error.isAboutKeys) {
      const isNew = this.isBusy || !this.keyId;
      this.leave(isNew ? error.message : `You have been signed out: ${error.message}`);
      return;
    }
    this.failure = error.message;
    this.changed();
  }

  /** Sign out; the key is gone from this browser before the page says so. */
  async leave(problem) {
    this.fleet?.stop();
    this.clusters?.stop();
    this.fleet = this.clusters = this.api = this.keyId = null;
    this.endLog();
    this.endTerminal();
    await forget();
    this.problem = problem;
    this.isBusy = false;
    if (this.settings.signIn === "optional" && !problem) this.open(null, null);
    else this.show();
  }

  moved() {
    const before = this.route;
    this.route = routeOf(location.hash);
    this.follow();
    this.show();
    if (before.path === this.route.path) return;
    scrollTo(0, 0);
    this.root.querySelector("h1")?.focus({ preventScroll: true });
  }

  /** Show anew what has changed, with the next picture of the browser. */
  changed() {
    if (this.isWanted) return;
    this.isWanted = true;
    requestAnimationFrame(() => this.show());
  }

  show() {
    this.isWanted = false;
    this.isAsked = this.isTerminalAsked = false;
    const { cluster } = this.route;
    if (this.isReadyToChoose()) return;
    const content = this.api ? this.content() : [entranceView(this)];
    if (!this.isAsked) this.endLog();
    if (!this.isTerminalAsked) this.endTerminal();
    morph(this.root, h("div", { id: "app" }, this.api && this.head(), h("main", { id: "main", tabindex: "-1" }, content)));
    layBars(this.root);
    const name = cluster ? VIEWS[this.route.parts[0] ?? ""]?.[2] ?? "" : "Clusters";
    document.title = [this.route.parts[1], this.api ? name : "Sign in", cluster, "Console"].filter(Boolean).join(" · ");
    this.announce();
  }

  /** With one cluster alone there is nothing to choose: go on to it, but only when the page is opened. */
  isReadyToChoose() {
    const all = this.clusters?.isLoaded ? [...this.clusters.clusters.keys()] : [];
    if (location.hash || all.length !== 1) return false;
    history.replaceState(null, "", place(all[0]));
    this.route = routeOf(location.hash);
    this.follow();
    this.changed();
    return true;
  }

  content() {
    if (this.failure) return [refusal(this.failure)];
    const source = this.fleet ?? this.clusters;
    if (!source.isLoaded) return [h("p", { class: "quiet starting" }, source.state === "away" ? "Control does not answer. Trying again…" : "Reading…")];
    if (!this.fleet) return clustersView(this);
    const [all, one] = VIEWS[this.route.parts[0] ?? ""] ?? VIEWS[""];
    return (this.route.parts[1] ? one : all)(this);
  }

  head() {
    const { cluster, parts } = this.route;
    const state = (this.fleet ?? this.clusters)?.state;
    return h(
      "header",
      { class: "top" },
      h("div", { class: "top-line" },
        h("a", { class: "brand", href: "#/" }, "Clusters"),
        cluster && h("span", { class: "crumb", "aria-hidden": "true" }, "/"),
        cluster && h("a", { class: "cluster", href: place(cluster) }, cluster),
        h("span", { class: `status live ${state === "live" ? "good" : state === "away" ? "bad" : "busy"}` },
          h("i", { "aria-hidden": "true" }), state === "live" ? "Live" : state === "away" ? "Reconnecting" : "Connecting"),
        this.account()),
      cluster && h("nav", { class: "tabs", "aria-label": "Views" },
        Object.entries(VIEWS).map(([name, [, , title]]) =>
          h("a", { href: place(cluster, name ? [name] : []), "aria-current": (parts[0] ?? "") === name ? "page" : null }, title))),
    );
  }

  account() {
    if (this.keyId) {
      return h("button", { type: "button", class: "account", "data-do": "leave", title: `Signed in with ${this.keyId}` }, "Sign out");
    }
    return h("span", { class: "account quiet" }, this.settings.signIn === "never" ? "No keys" : "Read only");
  }

  /** Return the element of a log, and read it for as long as it is shown. */
  logView(where) {
    this.isAsked = true;
    const name = `${where.group} ${where.stream}`;
    if (this.log?.name !== name) {
      this.endLog();
      this.log = { name, view: new LogView(this.api, where) };
      this.log.view.element.dataset.key = name;
    }
    const { element } = this.log.view;
    // In the page already, it stays there; what `morph` gets is only its place.
    return element.isConnected ? h("div", { class: "log", "data-own": true, "data-key": name }) : element;
  }

  endLog() {
    this.log?.view.stop();
    this.log = null;
  }

  /** Whether whoever is signed in may be shown that a terminal can be opened; policies say who may at the opening. */
  get hasTerminals() {
    return this.keyId !== null;
  }

  /** Return the element of the terminal that was opened in a task; null if none was. */
  terminalView(task) {
    if (this.terminal?.task !== task) return null;
    this.isTerminalAsked = true;
    const { element } = this.terminal.view;
    const name = { "data-own": true, "data-key": element.dataset.key };
    return element.isConnected ? h("div", { class: "log", ...name }) : element;
  }

  openTerminal(task, container) {
    this.endTerminal();
    const view = new TerminalView(this.api, { cluster: this.route.cluster, task, container });
    this.opened = (this.opened ?? 0) + 1;
    view.element.dataset.key = `terminal ${this.opened}`;
    this.terminal = { task, container, view };
    this.show();
    view.element.scrollIntoView({ block: "nearest" });
  }

  endTerminal() {
    this.terminal?.view.stop();
    this.terminal = null;
  }

  announce() {
    const state = (this.fleet ?? this.clusters)?.state;
    const text = state === "away" ? "The connection to control is lost. Trying again." : "";
    const place = document.getElementById("announce");
    if (place.textContent !== text) place.textContent = text;
  }

  tick() {
    if (document.hidden) return;
    for (const element of this.root.querySelectorAll("time[data-at]")) {
      const text = ago(Number(element.dataset.at));
      if (element.textContent !== text) element.textContent = text;
    }
    // Figures of an hour grow old; whether they are read anew is up to them.
    if (this.fleet?.isLoaded && Date.now() % 15_000 < 1000) this.changed();
  }

  clicked(event) {
    const element = event.target.closest("button[data-do]");
    if (element?.dataset.do === "leave") this.leave(null);
    if (element?.dataset.do === "terminal") this.openTerminal(element.dataset.task, element.dataset.container);
    if (element?.dataset.do === "sort") this.ask({ sort: element.dataset.sort, down: element.dataset.down });
  }

  filtered(event) {
    const { filter } = event.target.dataset;
    if (filter) this.ask({ [filter]: event.target.value });
  }

  /** Change the query of the place, which is no new place to go back from. */
  ask(changes) {
    const query = Object.fromEntries(this.route.query);
    history.replaceState(null, "", place(this.route.cluster, this.route.parts, { ...query, ...changes }));
    this.route = routeOf(location.hash);
    this.changed();
  }

  async submitted(event) {
    event.preventDefault();
    if (event.target.dataset.do !== "sign-in") return;
    const fields = new FormData(event.target);
    const keyId = fields.get("username").trim();
    this.isBusy = true;
    this.problem = null;
    this.show();
    try {
      const key = await enter(fields.get("password"));
      const signer = new Signer(keyId, key, this.settings.region);
      await new Api(signer).call("ecs", "ListClusters", { maxResults: 1 });
      await keep(keyId, key);
      this.isBusy = false;
      this.open(keyId, signer);
    } catch (error) {
      // Who may not list clusters has signed in all the same.
      if (error.code === "AccessDeniedException") return this.admitted(keyId, fields.get("password"));
      this.isBusy = false;
      this.problem = error.isAboutKeys === undefined ? "Control does not answer." : error.message;
      this.show();
    }
  }

  async admitted(keyId, secret) {
    const key = await enter(secret);
    await keep(keyId, key);
    this.isBusy = false;
    this.open(keyId, new Signer(keyId, key, this.settings.region));
  }

  pasted(event) {
    if (event.target.dataset?.paste !== "key") return;
    const found = pasted(event.clipboardData.getData("text"));
    if (!found) return;
    event.preventDefault();
    event.target.value = found.keyId;
    document.getElementById("secret").value = found.secret;
  }

  /** A slash goes to the filter, as in many tools. */
  pressed(event) {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const field = this.root.querySelector("input[type=search]");
    if (field) {
      event.preventDefault();
      field.focus();
    }
  }
}

function refusal(message) {
  const isOfName = /web pages|by an address/.test(message);
  return h("section", { class: "entrance" },
    h("h1", { tabindex: "-1" }, "Control refuses this"),
    h("p", null, message),
    isOfName && h("p", null, "Without keys, control answers a page only if it is called by an address, by localhost, or with TLS."));
}

function routeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [first, cluster, ...parts] = path.split("/").filter(Boolean).map(decoded);
  return { path, cluster: first === "c" ? cluster ?? null : null, parts, query: new URLSearchParams(query) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function start() {
  const answer = await fetch("settings.json", { cache: "no-cache" });
  const date = Date.parse(answer.headers.get("date") ?? "");
  if (date) clock.aheadS = Math.abs(date - Date.now()) > 5000 ? (date - Date.now()) / 1000 : 0;
  await new App(await answer.json()).begin();
}

start();
