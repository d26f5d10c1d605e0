// The words of the page's language, which a script of its own (words/) has brought in before.
import { Refusal } from "./info";

export const { words } = window.oriel;

/** Says what went wrong in words for people. */
export function why(error: unknown): string {
  if (!(error instanceof Refusal)) return words.unreachable;
  return error.message || words.answered(error.status);
}
