// Signing in: with an access key of control, which stays in the browser.

import { h } from "./dom.js";
import { importSecret } from "./sign.js";

/** Tell whether the browser has the cryptography that signing needs: only with TLS, or on the loopback. */
export function canSign() {
  return window.isSecureContext && Boolean(crypto.subtle);
}

/** Return the view of who has to sign in; `problem` says why the last try has failed. */
export function entranceView({ problem, isBusy }) {
  if (!canSign()) {
    return h("section", { class: "entrance" },
      h("h1", { tabindex: "-1" }, "A safe connection is needed"),
      h("p", null, "Browsers sign only on pages that nobody can change on the way: those with TLS, and those of this machine itself."),
      h("p", null, "Give control a certificate (--tls-certificate and --tls-key), or open the console through a tunnel:"),
      h("pre", { tabindex: "0" }, h("code", null, `ssh -L 6820:127.0.0.1:6820 ${location.hostname}`)),
      h("p", null, "and then http://127.0.0.1:6820/console/"));
  }
  return h("section", { class: "entrance" },
    h("h1", { tabindex: "-1" }, "Sign in"),
    h("form", { "data-do": "sign-in", autocomplete: "on" },
      h("label", { for: "key-id" }, "Access key ID"),
      h("input", { id: "key-id", name: "username", autocomplete: "username", required: true, spellcheck: "false", autocapitalize: "none", "data-paste": "key" }),
      h("label", { for: "secret" }, "Secret access key"),
      h("input", { id: "secret", name: "password", type: "password", autocomplete: "current-password", required: true }),
      h("p", { class: "problem", role: "alert" }, problem ?? ""),
      h("button", { type: "submit", class: "primary", disabled: isBusy }, isBusy ? "Signing in…" : "Sign in")),
    h("p", { class: "quiet" }, "The host of control prints a key, which can be pasted here as it is:"),
    h("pre", { tabindex: "0" }, h("code", null, "sudo ecs-agent env")),
    h("p", { class: "quiet" },
      "The secret never leaves this browser: it signs each call here. The browser keeps it for 12 hours, in a form that no script can read."));
}

/** Return the key id and the secret of a text such as `ecs-agent env` prints; null if it has none. */
export function pasted(text) {
  const keyId = /aws_access_key_id\s*[=:]\s*["']?([A-Za-z0-9_]{16,128})/i.exec(text)?.[1];
  const secret = /aws_secret_access_key\s*[=:]\s*["']?([^\s"';]{20,256})/i.exec(text)?.[1];
  return keyId && secret ? { keyId, secret } : null;
}

/** Return what signs with a secret; the secret itself is not kept. */
export function enter(secret) {
  return importSecret(secret.trim());
}
