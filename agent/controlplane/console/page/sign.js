// Signature Version 4 of AWS, with the browser's own cryptography. The secret is only ever a key that signs: no
// script can read it back. Source: the AWS General Reference, "Signature Version 4 signing process".

const encoder = new TextEncoder();

/** Return a secret access key as a key that can sign and cannot be read. */
export function importSecret(secret) {
  return hmacKey(encoder.encode(`AWS4${secret}`));
}

export class Signer {
  /**
   * @param {string} keyId access key id.
   * @param {CryptoKey} key from `importSecret`.
   * @param {string} region of control.
   */
  constructor(keyId, key, region) {
    this.keyId = keyId;
    this.key = key;
    this.region = region;
    this.derived = new Map();
  }

  /** Return the headers of a signed POST, those given included. `at` is the time of control, in Unix seconds. */
  async headers(service, path, headers, body, at) {
    const stamp = new Date(at * 1000).toISOString().replace(/[-:]|\.\d{3}/g, "");
    // Dates have whole seconds. With an id of its own, no two signatures are the same, and none is taken for a replay.
    const all = {
      ...headers, "amz-sdk-invocation-id": crypto.randomUUID(), host: location.host, "x-amz-date": stamp,
    };
    const names = Object.keys(all).filter((name) => name !== "content-type").sort();
    const listed = names.join(";");
    const canonical = [
      "POST", path, "", ...names.map((name) => `${name}:${all[name]}`), "", listed, await sha256(body),
    ].join("\n");
    const scope = `${stamp.slice(0, 8)}/${this.region}/${service}/aws4_request`;
    const text = `AWS4-HMAC-SHA256\n${stamp}\n${scope}\n${await sha256(canonical)}`;
    const signature = hex(await hmac(await this.signingKey(stamp.slice(0, 8), service), text));
    const { host: _, ...sent } = all;
    return {
      ...sent,
      authorization:
        `AWS4-HMAC-SHA256 Credential=${this.keyId}/${scope}, SignedHeaders=${listed}, Signature=${signature}`,
    };
  }

  signingKey(date, service) {
    const name = `${date}/${service}`;
    if (!this.derived.has(name)) {
      if (this.derived.size > 8) this.derived.clear();
      this.derived.set(name, this.derive(date, service));
    }
    return this.derived.get(name);
  }

  async derive(date, service) {
    let key = this.key;
    for (const part of [date, this.region, service, "aws4_request"]) key = await hmacKey(await hmac(key, part));
    return key;
  }
}

function hmacKey(raw) {
  return crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
}

function hmac(key, text) {
  return crypto.subtle.sign("HMAC", key, encoder.encode(text));
}

async function sha256(text) {
  return hex(await crypto.subtle.digest("SHA-256", encoder.encode(text)));
}

function hex(buffer) {
  return [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
