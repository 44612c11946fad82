// The canvas of a session.
export function Viewer() {
  return <div class="viewer" data-testid="viewer" />;
}
