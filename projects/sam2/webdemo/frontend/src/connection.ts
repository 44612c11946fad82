// The socket of a session: it comes back after a cut, and sends again what was not
// answered. The server keeps its latest answers by client and request number, so a
// command that arrives twice acts once, unless the server itself was started again.
import type { CommandType, Commands, Reply, ServerMessage } from './protocol';

/** The server refused a command; `message` is its sentence for the user. */
export class CommandError extends Error {}

export interface ConnectionHandlers {
  onState(state: 'connecting' | 'connected' | 'reconnecting' | 'closed'): void;
  onMessage(message: ServerMessage): void;
  onBinary(buffer: ArrayBuffer): void;
  /** The server ended the session (deleted, token refused): no more attempts. */
  onClosed(reason: string, code: number): void;
}

interface Waiting {
  readonly type: CommandType;
  readonly text: string;
  isSent: boolean;
  resolve(reply: Reply): void;
  reject(error: CommandError): void;
}

const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 8_000;
const PING_MS = 10_000;
const SILENCE_MS = 25_000;
/** Commands that may act twice. */
const HARMLESS = new Set<CommandType>(['masks', 'scores', 'ping', 'cancel']);
const FINAL_CODES = new Set([4401, 4403, 4404]);

/** A name for this page; `crypto.randomUUID` exists only on https and localhost. */
function clientId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export class Connection {
  private socket: WebSocket | null = null;
  private readonly client = clientId();
  private readonly waiting = new Map<number, Waiting>();
  private nextRequest = 1;
  private delay = FIRST_DELAY_MS;
  private retryTimer = 0;
  private heartbeat = 0;
  private lastMessage = 0;
  /** The server's process that knows the requests. */
  private server: string | null = null;
  private ready = false;
  private closed = false;
  private readonly reconnectNow = () => {
    if (!this.socket && !this.closed) this.open();
  };

  constructor(
    private readonly address: string,
    private readonly handlers: ConnectionHandlers,
  ) {
    window.addEventListener('online', this.reconnectNow);
    handlers.onState('connecting');
    this.open();
  }

  /** Sends a command; rejects with the server's reason. It survives a cut. */
  request<T extends CommandType>(type: T, fields: Commands[T]): Promise<Reply> {
    if (this.closed) return Promise.reject(new CommandError('The session is closed.'));
    const request = this.nextRequest++;
    const text = JSON.stringify({ request, type, ...fields });
    return new Promise((resolve, reject) => {
      const waiting = { type, text, isSent: false, resolve, reject };
      this.waiting.set(request, waiting);
      if (this.ready) this.send(waiting);
    });
  }

  private send(waiting: Waiting): void {
    waiting.isSent = true;
    this.socket?.send(waiting.text);
  }

  get numWaiting(): number {
    return this.waiting.size;
  }

  /** Drops the socket without a word, as a cut network does. */
  cut(): void {
    const { socket } = this;
    if (!socket) return;
    this.lose(0, '');
    socket.close();
  }

  close(): void {
    this.finish('The session is closed.');
    this.socket?.close();
  }

  private finish(reason: string): void {
    if (this.closed) return;
    this.closed = true;
    window.removeEventListener('online', this.reconnectNow);
    window.clearTimeout(this.retryTimer);
    window.clearInterval(this.heartbeat);
    for (const { reject } of this.waiting.values()) reject(new CommandError(reason));
    this.waiting.clear();
    this.handlers.onState('closed');
  }

  private open(): void {
    window.clearTimeout(this.retryTimer);
    const socket = new WebSocket(this.address);
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    this.lastMessage = Date.now();
    window.clearInterval(this.heartbeat);
    this.heartbeat = window.setInterval(() => this.beat(socket), PING_MS);
    socket.onopen = () =>
      socket.send(JSON.stringify({ request: 0, type: 'hello', client: this.client }));
    socket.onmessage = (event: MessageEvent<string | ArrayBuffer>) => {
      this.lastMessage = Date.now();
      if (typeof event.data === 'string') this.receive(JSON.parse(event.data) as ServerMessage);
      else this.handlers.onBinary(event.data);
    };
    socket.onclose = (event) => {
      if (this.socket === socket) this.lose(event.code, event.reason);
    };
  }

  private receive(message: ServerMessage): void {
    if (message.type === 'done' || message.type === 'error') {
      const waiting = this.waiting.get(message.request);
      this.waiting.delete(message.request);
      if (message.type === 'done') waiting?.resolve(message);
      else if (waiting) waiting.reject(new CommandError(message.message));
      else this.handlers.onMessage({ type: 'notice', level: 'error', message: message.message });
      return;
    }
    // First what waits, then what the page asks for when it sees the new state.
    if (message.type === 'hello') {
      if (this.server !== null && this.server !== message.server) this.dropUnknown();
      this.server = message.server;
      this.ready = true;
      this.delay = FIRST_DELAY_MS;
      for (const waiting of this.waiting.values()) this.send(waiting);
      this.handlers.onState('connected');
    }
    this.handlers.onMessage(message);
  }

  /** A new server cannot tell whether the old one did what it had not answered yet. */
  private dropUnknown(): void {
    for (const [request, { type, isSent, reject }] of this.waiting) {
      if (!isSent || HARMLESS.has(type)) continue;
      this.waiting.delete(request);
      const name = type.replaceAll('_', ' ');
      const reason = `The server was started again before it answered (${name}): look whether it is done, and do it again if not.`;
      reject(new CommandError(reason));
    }
  }

  private beat(socket: WebSocket): void {
    if (Date.now() - this.lastMessage > SILENCE_MS) {
      // A cut network closes no socket; closing waits for the other side, so move on.
      socket.close();
      if (this.socket === socket) this.lose(0, '');
    } else if (this.ready && socket.readyState === WebSocket.OPEN) {
      void this.request('ping', {}).catch(() => undefined);
    }
  }

  private lose(code: number, reason: string): void {
    this.socket = null;
    this.ready = false;
    window.clearInterval(this.heartbeat);
    if (this.closed) return;
    if (FINAL_CODES.has(code)) {
      this.finish(reason || 'The server closed the session.');
      this.handlers.onClosed(reason || 'The server closed the session.', code);
      return;
    }
    this.handlers.onState('reconnecting');
    // Jitter: the pages of a team do not come back in the same millisecond.
    this.retryTimer = window.setTimeout(() => this.open(), this.delay * (0.7 + 0.6 * Math.random()));
    this.delay = Math.min(2 * this.delay, LONGEST_DELAY_MS);
  }
}
