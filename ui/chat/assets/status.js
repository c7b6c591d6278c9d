/**
 * The server's state. Asked for at the start, on return to the tab and at the end of a turn; every two seconds
 * while it is not ready, every ten while a part of the content filter fails.
 */

import { api } from "./api.js";

/** @typedef {import("./api.js").ServerStatus} ServerStatus */

const POLL_MS = 2000;
const LONGEST_PAUSE_MS = 10000;

/** Dispatches `change`, and `back` when the server is reached again after a while. */
export class Status extends EventTarget {
  /** @type {ServerStatus | null} */
  current = null;
  isReachable = true;
  #pause = POLL_MS;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** Ask now, and go on asking until the server is ready. */
  async check() {
    clearTimeout(this.#timer);
    const wasReachable = this.isReachable;
    try {
      this.current = await api.status();
      this.isReachable = true;
      this.#pause = POLL_MS;
    } catch {
      this.isReachable = false;
      this.#pause = Math.min(this.#pause * 1.5, LONGEST_PAUSE_MS);
    }
    this.dispatchEvent(new Event("change"));
    if (this.isReachable && !wasReachable) this.dispatchEvent(new Event("back"));
    if (!this.isReachable || !this.current?.ready) this.#timer = setTimeout(() => this.check(), this.#pause);
    else if (this.current.filter !== "ok") this.#timer = setTimeout(() => this.check(), LONGEST_PAUSE_MS);
  }
}
