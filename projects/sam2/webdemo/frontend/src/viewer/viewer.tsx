// The canvas of a session.
import { useEffect, useRef } from 'preact/hooks';

import * as store from '../store';
import { attachPointer } from '../tools/pointer';
import { exposeDebug } from './debug';
import { Stage } from './stage';
import './viewer.css';

export function Viewer() {
  const container = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const marks = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    const stage = new Stage(container.current!, canvas.current!, marks.current!);
    const detach = attachPointer(stage);
    exposeDebug(stage);
    return () => {
      detach();
      stage.dispose();
    };
  }, []);
  const error = store.frameError.value;
  return (
    <div
      ref={container}
      class="viewer"
      data-testid="viewer-canvas"
      role="application"
      tabIndex={0}
      aria-label={`Frame ${store.shownFrame.value ?? 0}. Press K for a cross hair that the arrow keys move; Enter places a point.`}
    >
      <div class="viewer-picture">
        <canvas ref={canvas} aria-hidden="true" />
      </div>
      <canvas ref={marks} aria-hidden="true" />
      {error !== null && (
        <p class="viewer-error" role="status" data-testid="frame-error">
          {error}
        </p>
      )}
    </div>
  );
}
