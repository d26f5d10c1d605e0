// What plays the sound, in the browser's audio thread.
import { Ring } from "./ring";

declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

registerProcessor(
  "oriel-sound",
  class extends AudioWorkletProcessor {
    #ring = new Ring();

    constructor() {
      super();
      this.port.onmessage = ({ data }: MessageEvent<Float32Array[]>) => this.#ring.write(data);
    }

    process(_inputs: Float32Array[][], outputs: Float32Array[][]): boolean {
      if (outputs[0]) this.#ring.read(outputs[0]);
      return true;
    }
  },
);
