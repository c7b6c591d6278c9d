/** The web's JSON routes. Every call either returns the answer or throws a `Refused`. */

/**
 * @typedef {{name: string, title: string, number: number}} TemplateName
 * @typedef {{id: string, title: string, created_at: string, updated_at: string, template: TemplateName | null}} Conversation
 * @typedef {{model: string, model_revision: string, quantization: string, template: string | null, prompt_tokens: number,
 *   completion_tokens: number, queued_s: number, first_token_s: number | null, total_s: number, temperature: number | null,
 *   top_p: number | null, top_k: number | null, seed: number | null, policy: string, finish_reason: string}} Receipt
 * @typedef {"running" | "complete" | "stopped" | "blocked" | "failed" | "interrupted"} MessageState
 * @typedef {{decision_id: string, short: string, can_ask: boolean, state: "open" | "upheld" | "overturned" | null,
 *   note: string, pause?: string | null}} Review
 * @typedef {{id: string, parent_id: string | null, role: "user" | "assistant", state: MessageState, text: string, blocks: string[],
 *   created_at: string, notice: string | null, category: string | null, actions: ("again" | "continue")[], siblings: string[],
 *   is_prepared: boolean, outside_context: boolean, receipt: Receipt | null, review: Review | null}} Message
 * @typedef {{conversation: Conversation, messages: Message[]}} Thread
 * @typedef {{turn_id: string, conversation: Conversation, question: Message, answer: Message}} Turn
 * @typedef {{name: string, label: string, kind: "text" | "long_text" | "select" | "number", default: string, choices: string[],
 *   required: boolean}} Variable
 * @typedef {{name: string, title: string, description: string, language: string, tags: string[], version_id: string,
 *   number: number, variables: Variable[], examples: string[]}} Template
 * @typedef {{account: {name: string, role: "guest" | "user" | "admin"} | null, can_chat: boolean, sign_in_url: string,
 *   language: "en" | "zh", can_share: boolean}} Me
 * @typedef {{id: string, title: string, is_embedded: boolean, context_length: number, license_url: string,
 *   source_url: string}} Model
 * @typedef {{ready: boolean, state: "starting" | "loading" | "ready" | "down", stage: string, progress: number,
 *   model: Model | null, slots: number, running: number, waiting: number, filter: "ok" | "degraded" | "closed",
 *   message: string}} ServerStatus
 * @typedef {{conversation_id: string | null, parent_id: string | null, text: string,
 *   template: {name: string, variables: Record<string, string>} | null}} Question
 * @typedef {{id: string, conversation_id: string, title: string, created_at: string, expires_at: string | null}} Share
 * @typedef {"markdown" | "json" | "text"} ExportFormat
 */

import { t } from "./i18n.js";

/** A request that did not succeed; its message is words for the reader. */
export class Refused extends Error {
  /**
   * @param {string} message
   * @param {{status?: number, code?: string}} [details] status 0: the server was not reached
   */
  constructor(message, { status = 0, code = "unreachable" } = {}) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/**
 * @param {string} method
 * @param {string} path
 * @param {unknown} [body]
 * @returns {Promise<any>}
 */
async function request(method, path, body) {
  const json = { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, body === undefined ? { method } : { method, ...json });
  } catch {
    throw new Refused(t("app.unreachable"));
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => null);
  if (response.ok && answer !== null) return answer;
  const { code = "unreadable", message = t("app.failed", { status: response.status }) } = answer?.error ?? {};
  throw new Refused(message, { status: response.status, code });
}

/**
 * Fetch a file; its name is the server's.
 * @param {string} path
 * @returns {Promise<{name: string, content: Blob}>}
 */
async function download(path) {
  const response = await fetch(path).catch(() => null);
  if (!response) throw new Refused(t("app.unreachable"));
  if (!response.ok) {
    const answer = await response.json().catch(() => null);
    const { code = "unreadable", message = t("app.failed", { status: response.status }) } = answer?.error ?? {};
    throw new Refused(message, { status: response.status, code });
  }
  const name = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("content-disposition") ?? "");
  return { name: name ? decodeURIComponent(name[1]) : "haina", content: await response.blob() };
}

/** @param {string} id */
const conversationPath = (id) => `/api/conversations/${encodeURIComponent(id)}`;
/** @param {string} id */
const turnPath = (id) => `/api/turns/${encodeURIComponent(id)}`;

export const api = {
  /** @returns {Promise<Me>} */
  me: () => request("GET", "/api/me"),
  /** @returns {Promise<ServerStatus>} */
  status: () => request("GET", "/api/status"),
  /** @returns {Promise<{templates: Template[]}>} */
  templates: () => request("GET", "/api/templates"),
  /**
   * @param {{query?: string, before?: string}} [filter]
   * @returns {Promise<{conversations: Conversation[], more: boolean}>}
   */
  conversations: ({ query = "", before = "" } = {}) =>
    request("GET", `/api/conversations?${new URLSearchParams({ ...(query && { query }), ...(before && { before }) })}`),
  /** @param {string} id @returns {Promise<Thread>} */
  conversation: (id) => request("GET", conversationPath(id)),
  /** @param {string} id @param {string} title @returns {Promise<Conversation>} */
  rename: (id, title) => request("PATCH", conversationPath(id), { title }),
  /** @param {string} id @param {string} leafId @returns {Promise<Thread>} */
  showBranch: (id, leafId) => request("PATCH", conversationPath(id), { leaf_id: leafId }),
  /** @param {string} id @returns {Promise<null>} */
  remove: (id) => request("DELETE", conversationPath(id)),
  /** @param {string} id @returns {Promise<Conversation>} */
  restore: (id) => request("POST", `${conversationPath(id)}/restore`),
  /** @param {string} id @param {ExportFormat} format */
  exported: (id, format) => download(`${conversationPath(id)}/export?format=${format}`),
  /** @param {string} conversationId empty: all @returns {Promise<{shares: Share[]}>} */
  shares: (conversationId) => request("GET", `/api/shares?${new URLSearchParams({ conversation_id: conversationId })}`),
  /** @param {string} conversationId @param {number | null} days @returns {Promise<{share: Share, path: string}>} */
  share: (conversationId, days) => request("POST", "/api/shares", { conversation_id: conversationId, days }),
  /** @param {string} id @returns {Promise<null>} */
  revokeShare: (id) => request("DELETE", `/api/shares/${encodeURIComponent(id)}`),
  /** @param {Question} question @returns {Promise<Turn>} */
  ask: (question) => request("POST", "/api/turns", question),
  /** @param {string} id @returns {Promise<null>} */
  stop: (id) => request("POST", `${turnPath(id)}/stop`),
  /** @param {string} id @param {"again" | "continue"} how @returns {Promise<Turn>} */
  repeat: (id, how) => request("POST", `${turnPath(id)}/${how}`),
  /** @param {string} decisionId @param {string} comment @returns {Promise<Review>} */
  appeal: (decisionId, comment) => request("POST", "/api/appeals", { decision_id: decisionId, comment }),
  /** @returns {Promise<unknown>} */
  signOut: () => fetch("/logout", { method: "POST" }),
};
