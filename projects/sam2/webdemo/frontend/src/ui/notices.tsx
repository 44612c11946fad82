import * as commands from '../commands';
import * as store from '../store';
import { IconButton } from './controls';
import { Icon } from './icons';

/**
 * Short messages in the corner; a screen reader hears them. A modal dialog brings its own,
 * since everything outside of it is inert.
 */
export function Notices() {
  const notices = store.notices.value.filter((notice) => !notice.permanent);
  return (
    <div class="toasts" role="log" aria-live="polite" aria-label="Messages" data-testid="notices">
      {notices.map((notice) => (
        <div key={notice.id} class={`toast toast-${notice.level}`} data-testid={`notice-${notice.level}`}>
          <Icon name={notice.level} />
          <p>{notice.message}</p>
          <IconButton icon="close" label="Close this message" onClick={() => commands.dismissNotice(notice.id)} />
        </div>
      ))}
    </div>
  );
}
