// The part of noVNC 1.7.0 that the viewer uses. The members with an underscore are not part of its API: screen.ts relies on
// them, which is why the version is pinned and the browser test looks at what they do.
declare module "@novnc/novnc" {
  /** What noVNC needs of a WebSocket. */
  interface RawChannel {
    binaryType: string;
    readonly protocol: string;
    readonly readyState: number | string;
    onopen: (() => void) | null;
    onmessage: ((event: { data: ArrayBuffer }) => void) | null;
    onclose: ((event: { code: number; reason: string }) => void) | null;
    onerror: ((event: unknown) => void) | null;
    send(data: Uint8Array<ArrayBuffer>): void;
    close(): void;
  }

  export default class RFB extends EventTarget {
    constructor(target: HTMLElement, channel: RawChannel, options?: { shared?: boolean });
    background: string;
    clipViewport: boolean;
    dragViewport: boolean;
    focusOnClick: boolean;
    qualityLevel: number;
    compressionLevel: number;
    resizeSession: boolean;
    scaleViewport: boolean;
    showDotCursor: boolean;
    viewOnly: boolean;
    focus(options?: FocusOptions): void;
    blur(): void;
    disconnect(): void;
    clipboardPasteFrom(text: string): void;
    sendKey(keysym: number, code: string | null, down?: boolean): void;

    _canvas: HTMLCanvasElement;
    _cursor: { _canvas: HTMLCanvasElement };
    _keyboard: { _target: HTMLElement; _allKeysUp(): void };
    _mousePos: { x?: number; y?: number };
    _handleMouseMove(x: number, y: number): void;
    _framebufferUpdate(): boolean;
    _requestRemoteResize(): void;
    _screenSize(): { w: number; h: number };
  }
}
