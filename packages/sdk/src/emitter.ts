import { EventEmitter } from 'node:events';
import type { VolumeEvent, VolumeEvents } from './events.ts';

/** Events of an emitter itself. */
const internalNames: ReadonlySet<string | symbol> = new Set(['newListener', 'removeListener']);

/** A volume that tells what happens to it: from its first listener on, until its last one is removed. */
export abstract class VolumeEmitter extends EventEmitter<VolumeEvents> {
  #unlisten: (() => void) | undefined;

  constructor() {
    super();
    const own = this as EventEmitter;
    own.on('removeListener', () => {
      if (this.eventNames().every((name) => internalNames.has(name))) {
        this.#unlisten?.();
        this.#unlisten = undefined;
      }
    });
    own.on('newListener', (name: string | symbol) => {
      if (!internalNames.has(name)) {
        this.#unlisten ??= this.listen((event) => {
          own.emit(event.type, event);
          own.emit('event', event);
        });
      }
    });
  }

  /** Has `tell` called with what happens from now on. Returns what ends that. */
  protected abstract listen(tell: (event: VolumeEvent) => void): () => void;
}
