/**
 * A running answer, read from `/turns/{id}/events`.
 *
 * The events are numbered. EventSource mends a broken line by itself and asks on from the last number; where it gives up
 * (the server was down, or said no), we open a new one with growing pauses, from the same number.
 */

/** @typedef {import("./api.js").Message} Message */
/**
 * @typedef {object} Reader what is told of the answer's progress
 * @property {(words: string, progress: number | null) => void} waiting
 * @property {() => void} started
 * @property {(index: number, html: string) => void} block a whole block, new or in place of the one shown
 * @property {(index: number, text: string) => void} text more text at the end of a block
 * @property {(end: {message: Message, title: string | null}) => void} end the last call
 * @property {(isBroken: boolean) => void} broken the line broke, or works again
 * @property {() => Promise<boolean>} isOver asked when the line stays broken: whether there is nothing more to wait for
 */

const FIRST_PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 15000;

/**
 * Follow a turn to its end.
 * @param {string} turnId
 * @param {Reader} reader
 * @returns {() => void} leaves it; the answer goes on without us
 */
export function follow(turnId, reader) {
  let last = 0;
  let pause = FIRST_PAUSE_MS;
  let isLeft = false;
  /** @type {EventSource | undefined} */
  let source;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;

  function open() {
    const line = new EventSource(`/turns/${encodeURIComponent(turnId)}/events${last ? `?after=${last}` : ""}`);
    source = line;
    /**
     * @param {string} name
     * @param {(data: any) => void} take
     */
    const on = (name, take) =>
      line.addEventListener(name, (event) => {
        last = Number(event.lastEventId) || last;
        take(JSON.parse(event.data));
      });
    line.addEventListener("open", () => {
      pause = FIRST_PAUSE_MS;
      reader.broken(false);
    });
    line.addEventListener("error", () => {
      reader.broken(true);
      if (line.readyState === EventSource.CLOSED) timer = setTimeout(reopen, pause);
    });
    on("waiting", (data) => reader.waiting(data.message, data.stage ? data.progress : null));
    on("started", () => reader.started());
    on("block", (data) => reader.block(data.index, data.html));
    on("text", (data) => reader.text(data.index, data.text));
    on("end", (data) => {
      leave();
      reader.end(data);
    });
  }

  async function reopen() {
    pause = Math.min(pause * 2, LONGEST_PAUSE_MS);
    const isOver = await reader.isOver();
    if (isLeft) return;
    if (isOver) leave();
    else open();
  }

  function leave() {
    isLeft = true;
    clearTimeout(timer);
    source?.close();
  }

  open();
  return leave;
}
