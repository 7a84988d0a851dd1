/** Numbers and times -> what people read. */

const UNITS = ["", "k", "M", "G", "T"];

export const number = (value) => {
  if (value === null || value === undefined) return "–";
  let at = 0;
  let scaled = value;
  while (Math.abs(scaled) >= 9999.5 / (at === 0 ? 1 : 10) && at < UNITS.length - 1) {
    scaled /= 1000;
    at += 1;
  }
  const digits = Number.isInteger(scaled) || Math.abs(scaled) >= 100 ? 0 : 1;
  return `${scaled.toFixed(digits)}${at === 0 ? "" : ` ${UNITS[at]}`}`;
};

export const bytes = (value) => (value === null || value === undefined ? "–" : `${number(value)}${value >= 10000 ? "" : " "}B`);

export const rate = (value) => `${number(value)}/s`;

export const byteRate = (value) => `${bytes(value)}/s`;

export const milliseconds = (value) => (value === null || value === undefined ? "–" : `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`);

export const duration = (seconds) => {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} days`;
};

/** An ID of 52 characters says nothing to people; its ends tell it from others. */
export const shortId = (id) => (id.length === 52 ? `${id.slice(0, 6)}…${id.slice(-6)}` : id);

export const clock = (unixSeconds) => new Date(unixSeconds * 1000).toLocaleTimeString();
