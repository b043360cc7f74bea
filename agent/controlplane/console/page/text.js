// Figures, times and names as people read them. Pure, except for the time.

/** How far the clock of control is ahead of this one, in seconds; set once at the start. */
export const clock = { aheadS: 0 };

/** Return the time of control, in Unix seconds. */
export function now() {
  return Date.now() / 1000 + clock.aheadS;
}

/** Return how long ago something was: "12 s ago". */
export function ago(at) {
  const s = now() - at;
  if (s < -5) return `in ${span(-s)}`;
  return s < 2 ? "just now" : `${span(s)} ago`;
}

/** Return a length of time by its greatest unit. */
export function span(s) {
  if (s < 60) return `${Math.max(0, Math.floor(s))} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 48 * 3600) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}

/** Return a moment in full, in the reader's own zone. */
export function moment(at) {
  return new Date(at * 1000).toLocaleString(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
    timeZoneName: "short",
  });
}

/** Return the time of a day, for lines of a log. */
export function timeOfDay(ms) {
  const at = new Date(ms);
  const two = (number) => String(number).padStart(2, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** Return an amount of bytes. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  let size = count;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (Math.abs(size) < 1024) return `${unit === "B" ? Math.round(size) : few(size)} ${unit}`;
    size /= 1024;
  }
  return `${few(size)} TiB`;
}

/** Return MiB, as ECS counts memory. */
export function mib(count) {
  return bytes(count * 1024 * 1024);
}

/** Return CPU units as processors: 1024 units are one. */
export function cpus(units) {
  return units === null || units === undefined ? "–" : `${few(units / 1024)} vCPU`;
}

/** Return a share as a percentage. */
export function percent(share) {
  return share === null || share === undefined || !Number.isFinite(share) ? "–" : `${few(share * 100)} %`;
}

function few(number) {
  const size = Math.abs(number);
  return String(Number(number.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)));
}

/** Return "1 task", "2 tasks". */
export function count(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

/** Return what follows the last slash of an ARN. */
export function last(arn) {
  return (arn ?? "").split("/").at(-1);
}

/** Return a status as a word: "RUNNING" is "Running", "ROLL_BACK" is "Roll back". */
export function word(status) {
  const text = (status ?? "").toLowerCase().replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}
