import { $, memory, pause } from "./dom";
import { percent } from "./form";
import type { Room } from "./panels";
import { soundAddress } from "./seat";
import { words } from "./words";

/** The form of the sound: agentapi.SoundRate, Opus, two channels. */
const rate = 48_000;
/** After so long without sound the computer's audio device is let go, in milliseconds. */
const quietAfter = 3_000;

/**
 * Plays the sound of the session: packets of Opus from a WebSocket, decoded by the browser, played by a worklet of its own
 * (worklet.ts). Nothing is opened before it may be heard: not before the person's first press, which browsers demand, and not
 * while it is muted. In silence there are no packets, and the device rests.
 */
export class Sound {
  #tool = document.querySelector<HTMLButtonElement>("[data-panel=sound]")!;
  #range = $<HTMLInputElement>("sound-volume");
  #mute = $<HTMLButtonElement>("sound-mute");
  #muted = memory.get("muted") === "yes";
  #volume = Math.min(1, Math.max(0, Number(memory.get("volume") ?? 1) || 0));
  #live = false; // there is a stream
  #pressed = navigator.userActivation?.hasBeenActive ?? false;
  #player: Promise<Player> | undefined;
  #running: AbortController | null = null;

  constructor(private room: Room) {
    this.#range.value = String(Math.round(this.#volume * 100));
    this.#range.oninput = () => {
      this.#volume = Number(this.#range.value) / 100;
      this.#muted = this.#volume === 0;
      this.#apply();
    };
    this.#mute.onclick = () => {
      this.#muted = !this.#muted;
      if (!this.#muted && this.#volume === 0) this.#range.value = String((this.#volume = 0.5) * 100);
      this.#apply();
    };
    const press = () => {
      this.#pressed = true;
      this.#follow();
    };
    for (const type of ["pointerup", "keydown"]) addEventListener(type, press, { capture: true, once: true, passive: true });
    this.#apply();
  }

  resume(): void {
    this.#live = true;
    this.#follow();
  }

  rest(): void {
    this.#live = false;
    this.#follow();
  }

  #apply(): void {
    memory.set("muted", this.#muted ? "yes" : "no");
    memory.set("volume", String(this.#volume));
    this.#mute.setAttribute("aria-pressed", String(this.#muted));
    this.#tool.dataset["muted"] = String(this.#muted);
    this.#range.setAttribute("aria-valuetext", this.#muted ? words.muted : percent(this.#volume));
    this.#follow();
    void this.#player?.then((player) => player.setVolume(this.#volume), () => undefined);
  }

  #follow(): void {
    const fault = !window.isSecureContext ? words.soundNeedsHttps : !("AudioDecoder" in window) || !("AudioWorklet" in window) ? words.soundImpossible : "";
    $("sound-status").textContent = fault || (this.#pressed ? "" : words.soundBegins);
    const on = !fault && this.#live && this.#pressed && !this.#muted;
    if (on && !this.#running) {
      this.#running = new AbortController();
      void this.#run(this.#running.signal);
    } else if (!on) {
      this.#running?.abort();
      this.#running = null;
    }
  }

  /** Keeps a connection for as long as there shall be sound. */
  async #run(signal: AbortSignal): Promise<void> {
    let player: Player;
    try {
      player = await (this.#player ??= Player.create(this.room.worklet, (playing) => (this.#tool.dataset["playing"] = String(playing))));
    } catch {
      this.#player = undefined;
      $("sound-status").textContent = words.soundImpossible;
      return;
    }
    player.setVolume(this.#volume);
    for (let wait = 1000; !signal.aborted; wait = Math.min(wait * 2, 30_000)) {
      const began = performance.now();
      await player.play(signal);
      if (performance.now() - began > 10_000) wait = 1000;
      await pause(wait, signal);
    }
    player.stop();
  }
}

/** The way from packets to the loudspeaker. */
class Player {
  #decoder: AudioDecoder | undefined;
  #timestamp = 0;
  #quiet = 0;

  private constructor(
    private context: AudioContext,
    private gain: GainNode,
    private output: AudioWorkletNode,
    private tell: (playing: boolean) => void,
  ) {}

  static async create(worklet: string, tell: (playing: boolean) => void): Promise<Player> {
    const supported = await AudioDecoder.isConfigSupported({ codec: "opus", sampleRate: rate, numberOfChannels: 2 });
    if (!supported.supported) throw new Error("no Opus");
    const context = new AudioContext({ sampleRate: rate, latencyHint: "interactive" });
    await context.audioWorklet.addModule(worklet);
    const output = new AudioWorkletNode(context, "oriel-sound", { numberOfInputs: 0, outputChannelCount: [2] });
    const gain = new GainNode(context);
    output.connect(gain).connect(context.destination);
    return new Player(context, gain, output, tell);
  }

  setVolume(volume: number): void {
    // The ear hears ratios, so that the square of the slider sounds even.
    this.gain.gain.setTargetAtTime(volume ** 2, this.context.currentTime, 0.015);
  }

  /** Plays what comes over one connection until it ends. */
  play(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const socket = new WebSocket(soundAddress(), "opus");
      socket.binaryType = "arraybuffer";
      socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => typeof data !== "string" && this.#take(data);
      socket.onclose = () => resolve();
      signal.addEventListener("abort", () => (socket.close(1000), resolve()), { once: true });
    });
  }

  stop(): void {
    window.clearTimeout(this.#quiet);
    this.#rest();
  }

  #take(packet: ArrayBuffer): void {
    if (document.hidden && this.context.state !== "running") return; // it would be heard late
    window.clearTimeout(this.#quiet);
    this.#quiet = window.setTimeout(() => this.#rest(), quietAfter);
    if (this.context.state !== "running") void this.context.resume();
    this.tell(true);
    if (this.#decoder?.state !== "configured") {
      this.#decoder = new AudioDecoder({ output: (data) => this.#give(data), error: () => undefined }); // it is closed then; the next packet makes another
      this.#decoder.configure({ codec: "opus", sampleRate: rate, numberOfChannels: 2 });
    }
    this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: this.#timestamp, data: packet }));
    this.#timestamp += 20_000;
  }

  #give(data: AudioData): void {
    const channels = [0, 1].map((n) => {
      const samples = new Float32Array(data.numberOfFrames);
      data.copyTo(samples, { planeIndex: Math.min(n, data.numberOfChannels - 1), format: "f32-planar" });
      return samples;
    });
    data.close();
    this.output.port.postMessage(channels, channels.map((samples) => samples.buffer));
  }

  #rest(): void {
    this.tell(false);
    void this.context.suspend();
  }
}
