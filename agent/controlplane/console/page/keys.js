// Keeps who is signed in, so that a reload does not sign out: the key id, and the key as one that cannot be read.

const NAME = "ecs-console";
const KEPT_MS = 12 * 3600 * 1000;

/** Return what `keep` kept, `{keyId, key}`; null if there is nothing, or its time is over. */
export async function kept() {
  const found = await inStore("readonly", (store) => store.get("key")).catch(() => null);
  if (!found) return null;
  if (found.until > Date.now()) return found;
  await forget();
  return null;
}

/** Keep a key for twelve hours. Where the browser keeps nothing, as in private windows, it lasts until a reload. */
export async function keep(keyId, key) {
  const until = Date.now() + KEPT_MS;
  await inStore("readwrite", (store) => store.put({ keyId, key, until }, "key")).catch(() => null);
}

/** Forget it. */
export async function forget() {
  await inStore("readwrite", (store) => store.delete("key")).catch(() => null);
}

async function inStore(mode, work) {
  const database = await promised(opened());
  try {
    return await promised(work(database.transaction("keys", mode).objectStore("keys")));
  } finally {
    database.close();
  }
}

function opened() {
  const request = indexedDB.open(NAME, 1);
  request.onupgradeneeded = () => request.result.createObjectStore("keys");
  return request;
}

function promised(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
