/** Randomness with a seed: a failing run can be had again. */

/** Return a generator of numbers from 0 to below 1 (mulberry32). */
export const makeRandom = (seed) => {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let value = Math.imul(state ^ (state >>> 15), state | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 2 ** 32;
  };
};

export const randomBytes = (random, size) => Uint8Array.from({ length: size }, () => Math.floor(random() * 256));

/** Random bytes, and each of `good` with a byte changed, cut off, or with more behind it. */
export function* garbage(random, good, count) {
  for (let number = 0; number < count; number += 1) {
    yield randomBytes(random, Math.floor(random() * 160));
    if (good.length === 0) continue;
    const bytes = good[Math.floor(random() * good.length)].slice();
    if (bytes.length > 0) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    yield bytes;
    yield bytes.slice(0, Math.floor(random() * bytes.length));
    yield Uint8Array.from([...bytes, ...randomBytes(random, Math.floor(random() * 8))]);
  }
}
