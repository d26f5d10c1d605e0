/** How much is gathered before it is played: what evens out the packets' different ways. In frames of 48 kHz. */
const cushion = 48 * 80;
/** With more than this, what is played is too far behind the picture. */
const behind = cushion + 48 * 120;
const capacity = 48_000;

/**
 * Sound on its way to be played. It begins to play when there is a cushion of it, or as much time has passed, is silent when there is none, and drops what is
 * too old, so that it does not fall behind although the clocks of two computers differ.
 */
export class Ring {
  #channels = [new Float32Array(capacity), new Float32Array(capacity)];
  #read = 0;
  #length = 0;
  #playing = false;
  #waited = 0; // how long there has been something, but not enough

  get length(): number {
    return this.#length;
  }

  /** Takes a piece: one array for each channel. */
  write(piece: readonly Float32Array[]): void {
    const count = Math.min(piece[0]?.length ?? 0, capacity);
    for (let n = 0; n < count; n++) {
      const at = (this.#read + this.#length + n) % capacity;
      this.#channels.forEach((channel, c) => (channel[at] = (piece[c] ?? piece[0])?.[n] ?? 0));
    }
    this.#length += count;
    if (this.#length > behind || this.#length > capacity) this.#drop(this.#length - cushion);
  }

  /** Fills the output, with silence where there is no sound. */
  read(output: readonly Float32Array[]): void {
    const wanted = output[0]?.length ?? 0;
    if (!this.#playing && this.#length > 0) {
      this.#playing = this.#length >= cushion || (this.#waited += wanted) >= cushion; // a short sound has no more
    }
    const count = this.#playing ? Math.min(wanted, this.#length) : 0;
    output.forEach((channel, c) => {
      const from = this.#channels[Math.min(c, 1)];
      for (let n = 0; n < count; n++) channel[n] = from?.[(this.#read + n) % capacity] ?? 0;
      channel.fill(0, count);
    });
    this.#drop(count);
    if (this.#length === 0) {
      this.#playing = false;
      this.#waited = 0;
    }
  }

  #drop(count: number): void {
    this.#read = (this.#read + count) % capacity;
    this.#length -= count;
  }
}
