/**
 * The picture on a board: pieces that anybody adds, in one order for all, whatever order they came in.
 *
 * Each piece has a number, one more than the highest that its drawer had seen, and the name of who drew it. Sorted by
 * the two they look the same to everybody; to put two pictures together is to put their pieces together.
 *
 *     {"at": 7, "user": "ann", "colour": 2, "width": 4, "points": [x, y, x, y, ...]}   a line
 *     {"at": 8, "user": "bob", "clear": true}                                          a clean board
 */

export const WIDTH = 960;
export const HEIGHT = 600;

/** Others choose one of these: nothing that they write becomes a colour. */
export const COLOURS = ["#1c1b1a", "#b3261e", "#0b57d0", "#146c2e", "#8a5a00"];

export const MAX_WIDTH = 40;

/** What others draw is held up to here; then the oldest pieces go. */
export const MAX_PIECES = 20000;

/** Numbers in one piece. */
export const MAX_POINTS = 400;

const MAX_AT = 2 ** 50;

const isBetween = (value, least, most) => typeof value === "number" && value >= least && value <= most;

/** Return a piece that came from somebody, or null when it is none. */
export const readPiece = (value) => {
  const { at, user, clear, colour, width, points } = value ?? {};
  if (!Number.isInteger(at) || !isBetween(at, 1, MAX_AT) || typeof user !== "string") return null;
  if (clear === true) return { at, user, clear };
  const isLine =
    Number.isInteger(colour) &&
    isBetween(colour, 0, COLOURS.length - 1) &&
    isBetween(width, 1, MAX_WIDTH) &&
    Array.isArray(points) &&
    points.length >= 2 &&
    points.length <= MAX_POINTS &&
    points.length % 2 === 0 &&
    points.every((number) => isBetween(number, -WIDTH, 2 * WIDTH));
  return isLine ? { at, user, colour, width, points } : null;
};

const isBefore = (one, other) => one.at < other.at || (one.at === other.at && one.user < other.user);

export class Picture {
  /** Sorted. */
  #pieces = [];
  #highest = 0;

  /** The number of the next piece of this user. */
  nextAt() {
    return this.#highest + 1;
  }

  /** In the order in which they are drawn. */
  get pieces() {
    return this.#pieces;
  }

  /** Take a piece. Returns "known", "top" when it lies upon all others, or "within" when all must be drawn again. */
  add(piece) {
    const place = this.#place(piece);
    const there = this.#pieces[place];
    if (there !== undefined && !isBefore(piece, there)) return "known";
    this.#highest = Math.max(this.#highest, piece.at);
    // What is below a clean board is never seen again.
    if (place === 0 && there?.clear) return "known";
    if (piece.clear) {
      this.#pieces.splice(0, place, piece);
      return "within";
    }
    this.#pieces.splice(place, 0, piece);
    if (this.#pieces.length > MAX_PIECES) {
      this.#pieces.shift();
      return "within";
    }
    return place === this.#pieces.length - 1 ? "top" : "within";
  }

  /** Where a piece is, or belongs. */
  #place(piece) {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.#pieces[middle], piece)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

/** Draw one piece. */
export const drawPiece = (context, piece) => {
  if (piece.clear) {
    context.clearRect(0, 0, WIDTH, HEIGHT);
    return;
  }
  const [x, y, ...rest] = piece.points;
  context.lineCap = context.lineJoin = "round";
  context.strokeStyle = COLOURS[piece.colour];
  context.lineWidth = piece.width;
  context.beginPath();
  context.moveTo(x, y);
  // A dot is a line that goes nowhere.
  context.lineTo(x, y);
  for (let index = 0; index < rest.length; index += 2) context.lineTo(rest[index], rest[index + 1]);
  context.stroke();
};
