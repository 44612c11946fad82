// The layout of an open session around the canvas.
import type { ComponentChildren } from 'preact';

export function Workspace({ viewer }: { viewer: ComponentChildren }) {
  return <main data-testid="workspace">{viewer}</main>;
}
