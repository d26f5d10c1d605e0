/** How a channel ended. */
export interface End {
  /** The WebSocket's close code; 4001 and up are the gateway's own (stream.go), 1006 is a connection that was lost. */
  code: number;
  reason: string;
  /** Whether the channel was ever open. If not, the server's reason can only be learned by asking for the info. */
  opened: boolean;
}

/** A channel that hears nothing for so long, although it asked, is given up. In milliseconds. */
const deadAfter = 12_000;
const pingEvery = 2_000;

/**
 * A WebSocket with what a stream needs beyond one: it keeps what arrives until noVNC is there to take it, so that it can be
 * opened before noVNC is loaded; it measures the time to the server and back; it notices a network that is gone without a
 * word; and it tells how it ended. noVNC takes it for a WebSocket.
 */
export class Channel {
  binaryType = "arraybuffer";
  onopen: (() => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: unknown) => void) | null = null;

  /** Called when the channel has ended, before noVNC learns of it and takes its picture away. */
  onending: (() => void) | null = null;
  /** Called with the time to the server and back in milliseconds; null when an answer is overdue. */
  onlatency: ((ms: number | null) => void) | null = null;
  /** The last time that was measured, in milliseconds; undefined before the first. */
  latency: number | undefined;
  /** Resolves when the channel has ended. It never rejects. */
  readonly ended: Promise<End>;

  #socket: WebSocket;
  #receive: ((event: { data: ArrayBuffer }) => void) | null = null;
  #early: ArrayBuffer[] = [];
  #tell: ((notice: unknown) => void) | null = null;
  #untold: unknown[] = []; // notices that came before there was anyone to take them
  #opened = false;
  #over = false;
  #resolve!: (end: End) => void;
  #timer = 0;
  #asked = 0; // when the ping that is not answered yet was sent; 0 when there is none
  #heard = 0;

  constructor(url: string) {
    this.ended = new Promise((resolve) => (this.#resolve = resolve));
    this.#socket = new WebSocket(url, "binary");
    this.#socket.binaryType = "arraybuffer";
    this.#socket.onopen = () => {
      this.#opened = true;
      this.#heard = performance.now();
      this.#timer = window.setInterval(() => this.#ping(), pingEvery);
      this.onopen?.();
      this.#ping();
    };
    this.#socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
      if (this.#over || this.#socket.readyState !== WebSocket.OPEN) return; // what was on its way when it was closed is for nobody
      this.#heard = performance.now();
      if (typeof data === "string") {
        if (data.startsWith("{")) this.#notice(data);
        else this.#pong();
      } else if (this.#receive) {
        this.#receive({ data });
      } else {
        this.#early.push(data);
      }
    };
    this.#socket.onclose = (event) => this.#finish(event.code, event.reason);
  }

  /** Has tell called with what the server has to say beside the picture, and at once with what it has said already. */
  listen(tell: (notice: unknown) => void): void {
    this.#tell = tell;
    for (const notice of this.#untold.splice(0)) tell(notice);
  }

  get protocol(): string {
    return this.#socket.protocol;
  }

  get readyState(): number {
    return this.#over ? WebSocket.CLOSED : this.#socket.readyState;
  }

  get onmessage(): ((event: { data: ArrayBuffer }) => void) | null {
    return this.#receive;
  }

  set onmessage(receive) {
    this.#receive = receive;
    // Not at once: noVNC sets this while it is still being constructed.
    queueMicrotask(() => {
      for (const data of this.#early.splice(0)) this.#receive?.({ data });
    });
  }

  send(data: Uint8Array<ArrayBuffer>): void {
    if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send(data);
  }

  close(): void {
    this.#socket.close(1000);
  }

  /** Gives the channel up without waiting for the other side. */
  abandon(): void {
    this.#socket.close();
    this.#finish(1006, "abandoned");
  }

  #ping(): void {
    const now = performance.now();
    if (document.hidden) {
      this.#asked = 0; // timers are held back in a hidden page, so nothing can be concluded
      return;
    }
    if (this.#asked === 0) {
      this.#asked = now;
      if (this.#socket.readyState === WebSocket.OPEN) this.#socket.send("ping");
      return;
    }
    if (now - this.#asked > pingEvery) this.onlatency?.(null);
    if (now - this.#asked > deadAfter && now - this.#heard > deadAfter) this.abandon();
  }

  #pong(): void {
    if (this.#asked === 0) return;
    this.latency = performance.now() - this.#asked;
    this.#asked = 0;
    this.onlatency?.(this.latency);
  }

  #notice(text: string): void {
    let notice: unknown;
    try {
      notice = JSON.parse(text);
    } catch {
      return;
    }
    if (this.#tell) this.#tell(notice);
    else this.#untold.push(notice);
  }

  #finish(code: number, reason: string): void {
    if (this.#over) return;
    this.#over = true;
    window.clearInterval(this.#timer);
    this.onending?.();
    this.#resolve({ code, reason, opened: this.#opened });
    this.onclose?.({ code, reason });
  }
}
