// Numbers, sizes and times, as they are written in the page's language.

const page = document.documentElement.lang;

/** The page's language, in the variety that the browser prefers: en-GB, for example. */
const locale = navigator.languages.find((tag) => tag.split("-")[0] === page) ?? page;

export function number(n: number, options: Intl.NumberFormatOptions = {}): string {
  return n.toLocaleString(locale, options);
}

const unit = (n: number, name: string, unitDisplay: "short" | "long", maximumFractionDigits = 0) =>
  number(n, { style: "unit", unit: name, unitDisplay, maximumFractionDigits });

/** Writes a number of bytes. */
export function size(bytes: number): string {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let n = 0;
  for (; bytes >= 999.5 && n < units.length - 1; n++) bytes /= 1000;
  return unit(bytes, units[n]!, n === 0 ? "long" : "short", n > 0 && bytes < 10 ? 1 : 0);
}

/** Writes seconds in words: in the largest unit of which there is more than one and a half. */
export function duration(seconds: number): string {
  if (seconds < 90) return unit(Math.max(1, seconds), "second", "long");
  return seconds < 5400 ? unit(seconds / 60, "minute", "long") : unit(seconds / 3600, "hour", "long");
}

/** Writes seconds with their sign, which is the same in every language. */
export const brief = (seconds: number) => `${number(seconds)} s`;

/** Writes milliseconds. */
export const milliseconds = (ms: number) => unit(Math.max(1, Math.round(ms)), "millisecond", "short");

export const percent = (part: number) => number(part, { style: "percent" });

/** Writes seconds as 4:59. */
export function clock(seconds: number): string {
  const two = (n: number) => String(n).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours ? `${hours}:${two(Math.floor(seconds / 60) % 60)}` : Math.floor(seconds / 60)}:${two(seconds % 60)}`;
}

const today = (at: Date) => at.toDateString() === new Date().toDateString();

/** Writes a time of day, with the day if it is not today. */
export function when(at: Date): string {
  return at.toLocaleString(locale, { ...(!today(at) && { weekday: "short", day: "numeric", month: "short" }), hour: "2-digit", minute: "2-digit" });
}

/** Writes a point in time that is past: the time of today, the date of other days. */
export function date(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  if (today(at)) return when(at);
  return at.toLocaleDateString(locale, { day: "numeric", month: "short", ...(at.getFullYear() !== new Date().getFullYear() && { year: "numeric" }) });
}
