/** One dispatched event of an event stream. */
export interface SseMessage {
  /** Its own `id:`, null if it has none. */
  id: string | null;
  /** Its `event:`, `message` if it has none. */
  event: string;
  data: string;
}

/**
 * Reads an event stream (WHATWG HTML, section 9.2.6) from text in any pieces.
 *
 * An id belongs to the message it stands with: unlike an EventSource, which has a last id only, so that a
 * frame without one (a snapshot) is not taken for the event before it.
 */
export class SseParser {
  /** What the server asked to wait before reconnecting, null if it did not. */
  retryMilliseconds: number | null = null;

  #rest = "";
  #started = false;
  #id: string | null = null;
  #event = "";
  #data: string[] = [];

  /** The messages that are complete with this piece of text. */
  *push(text: string): Generator<SseMessage> {
    if (!this.#started && text !== "") {
      this.#started = true;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    if (!/[\r\n]/.test(text) && !this.#rest.endsWith("\r")) {
      // A long line in many pieces is not searched anew for each.
      this.#rest += text;
      return;
    }
    const lines = (this.#rest + text).split(/\r\n|\n|\r(?!$)/);
    // The last one goes on in the next piece; so does a \r at the end, which may be half of a \r\n.
    this.#rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line !== "") {
        this.#field(line);
        continue;
      }
      if (this.#data.length > 0) {
        yield { id: this.#id, event: this.#event || "message", data: this.#data.join("\n") };
      }
      this.#id = null;
      this.#event = "";
      this.#data = [];
    }
  }

  #field(line: string): void {
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const name = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    switch (name) {
      case "data":
        this.#data.push(value);
        break;
      case "event":
        this.#event = value;
        break;
      case "id":
        if (!value.includes("\0")) this.#id = value;
        break;
      case "retry":
        if (/^[0-9]+$/.test(value)) this.retryMilliseconds = Number(value);
        break;
    }
  }
}
