import * as commands from '../commands';
import * as store from '../store';
import { Button, IconButton } from '../ui/controls';
import { formatBytes } from '../ui/format';

/** Files on their way to the server. */
export function UploadList() {
  const uploads = store.uploads.value;
  if (!uploads.length) return null;
  return (
    <ul class="upload-list" data-testid="uploads">
      {uploads.map((upload) => (
        <li key={upload.id} data-testid="upload" data-state={upload.state}>
          <div class="row-line">
            <span class="grow truncate">{upload.name}</span>
            <span class="muted number">
              {upload.state === 'running'
                ? `${formatBytes(upload.loaded)} of ${formatBytes(upload.total)}`
                : { done: 'done', failed: 'failed', cancelled: 'cancelled' }[upload.state]}
            </span>
            {upload.state === 'running' ? (
              <Button testId="upload-cancel" onClick={() => commands.cancelUpload(upload.id)}>
                Cancel
              </Button>
            ) : (
              <IconButton icon="close" label={`Close ${upload.name}`} onClick={() => commands.dismissUpload(upload.id)} />
            )}
          </div>
          {upload.state === 'running' && (
            <progress max={upload.total || 1} value={upload.loaded} aria-label={`Upload of ${upload.name}`} />
          )}
          {upload.error && <p class="error-text">{upload.error}</p>}
        </li>
      ))}
    </ul>
  );
}
