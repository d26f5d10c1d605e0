// What lies around the stream of a session and is not needed for its first picture: session.ts brings it in afterwards.
import { Catalogue } from "./catalogue";
import { Files } from "./files";
import type { Notices } from "./notices";
import { Prints } from "./prints";
import type { SessionInfo } from "./seat";
import { Sound } from "./sound";
import type { Stage } from "./stage";
import { WindowList } from "./windows";

/** What the parts share. */
export interface Room {
  stage: Stage;
  notices: Notices;
  /** The address of the script that plays the sound (worklet.ts). */
  worklet: string;
}

/** All of them. */
export class Panels {
  #catalogue: Catalogue;
  #windows: WindowList;
  #files: Files;
  #prints: Prints;
  #sound: Sound;
  #info: SessionInfo | undefined;

  constructor(room: Room) {
    this.#catalogue = new Catalogue(room);
    this.#windows = new WindowList(room, this.#catalogue);
    this.#files = new Files(room);
    this.#prints = new Prints(room);
    this.#sound = new Sound(room);
  }

  /** Takes up what is known about the session. */
  tell(info: SessionInfo): void {
    this.#info = info;
    this.#catalogue.tell(info);
    this.#windows.tell(info);
    this.#files.tell(info.rules);
    this.#prints.tell(info.rules);
  }

  /** Goes on with a new stream. */
  resume(): void {
    this.#windows.resume();
    if (this.#info?.rules.print) this.#prints.resume();
    this.#sound.resume();
  }

  /** Rests until there is a stream again. */
  rest(): void {
    this.#windows.rest();
    this.#prints.rest();
    this.#sound.rest();
  }
}
