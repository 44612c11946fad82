// The sessions that there are: open, rename or delete them, or find a video that was moved.
import { useEffect, useRef, useState } from 'preact/hooks';

import { thumbUrl } from '../api';
import * as commands from '../commands';
import type { SessionEntry } from '../protocol';
import * as store from '../store';
import { Button, IconButton, InlineInput } from '../ui/controls';
import { Dialog } from '../ui/dialog';
import { formatAgo, formatCount } from '../ui/format';
import { Icon } from '../ui/icons';
import { FileBrowser } from './file-browser';

export function SessionList() {
  const sessions = store.sessions.value;
  const [toDelete, setToDelete] = useState<SessionEntry | null>(null);
  const [toFind, setToFind] = useState<SessionEntry | null>(null);
  const crashed = sessions?.filter((session) => session.crashed) ?? [];
  return (
    <section aria-label="Sessions">
      <header>
        <h2>Sessions</h2>
        <IconButton icon="refresh" label="Look again" testId="refresh-sessions" onClick={() => void commands.refreshSessions()} />
      </header>
      {crashed.length > 0 && (
        <div class="banner banner-warning rounded" role="status" data-testid="banner-crashed">
          <Icon name="warning" />
          <p>
            {crashed.length === 1 ? `${crashed[0]!.name} was` : `${crashed.length} sessions were`}{' '}
            interrupted. Open {crashed.length === 1 ? 'it' : 'them'} to go on: everything but the
            running frame was saved.
          </p>
        </div>
      )}
      <div class="surface" data-testid="session-list">
        {sessions?.map((session) => (
          <SessionCard key={session.id} session={session} onDelete={() => setToDelete(session)} onFind={() => setToFind(session)} />
        ))}
        {sessions?.length === 0 && (
          <div class="empty">
            <Icon name="film" />
            <p>No sessions yet. Open an example, a file of this computer, or upload one.</p>
          </div>
        )}
        {!sessions && <div class="empty">Looking for sessions …</div>}
      </div>
      {toFind && <FindDialog session={toFind} onClose={() => setToFind(null)} />}
      {toDelete && <DeleteDialog session={toDelete} onClose={() => setToDelete(null)} />}
    </section>
  );
}

interface SessionCardProps {
  session: SessionEntry;
  onDelete: () => void;
  onFind: () => void;
}

function SessionCard({ session, onDelete, onFind }: SessionCardProps) {
  const [renaming, setRenaming] = useState(false);
  const missing = session.state === 'missing video';
  return (
    <article class="session-card" data-testid="session-card" data-session={session.id} aria-label={session.name}>
      <div class="picture">
        {session.key && !missing ? (
          <img alt="" loading="lazy" src={thumbUrl(session.id, session.key, 0)} />
        ) : (
          <Icon name={session.kind === 'video' ? 'film' : 'image'} />
        )}
      </div>
      <div class="truncate">
        {renaming ? (
          <RenameInput session={session} onDone={() => setRenaming(false)} />
        ) : (
          <a class="open truncate" href={`#/sessions/${encodeURIComponent(session.id)}`} title={session.source} data-testid="session-open">
            {session.name}
          </a>
        )}
        <p class="session-facts number">
          <span>{formatCount(session.num_frames, session.kind === 'video' ? 'frame' : 'image')}</span>
          <span>{formatCount(session.num_objects, 'object')}</span>
          <span>{formatAgo(session.modified, Date.now() / 1000)}</span>
          {session.state === 'open' && <span class="badge badge-success">open</span>}
          {session.crashed && <span class="badge badge-warning">interrupted</span>}
          {missing && (
            <span class="badge badge-danger" title={session.source}>
              video is missing
            </span>
          )}
          {session.state === 'damaged' && <span class="badge badge-danger">damaged</span>}
        </p>
      </div>
      <div class="button-group">
        {missing && (
          <Button icon="search" testId="session-find" onClick={onFind}>
            Find
          </Button>
        )}
        <IconButton icon="pencil" label={`Rename ${session.name}`} testId="session-rename" onClick={() => setRenaming(true)} />
        <IconButton icon="trash" label={`Delete ${session.name}`} testId="session-delete" onClick={onDelete} />
      </div>
    </article>
  );
}

function RenameInput({ session, onDone }: { session: SessionEntry; onDone: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => box.current!.querySelector('input')!.select(), []);
  return (
    <div ref={box} class="rename" onFocusOut={onDone}>
      <InlineInput
        value={session.name}
        label="New name"
        testId="session-new-name"
        onCommit={(name) => {
          if (name) void commands.renameSession(session.id, name);
        }}
      />
    </div>
  );
}

/** The video was moved: the server takes its new place if it is the same video. */
function FindDialog({ session, onClose }: { session: SessionEntry; onClose: () => void }) {
  const move = async (source: string) => {
    if (await commands.moveSession(session.id, source)) onClose();
  };
  return (
    <Dialog title="Where is the video now?" testId="find-dialog" onClose={onClose}>
      <p>
        The video of <strong>{session.name}</strong> was at <code>{session.source}</code>. Choose the
        same video where it is now.
      </p>
      <FileBrowser purpose="media" onChoose={(path) => void move(path)} />
    </Dialog>
  );
}

function DeleteDialog({ session, onClose }: { session: SessionEntry; onClose: () => void }) {
  const remove = () => {
    void commands.deleteSession(session.id);
    onClose();
  };
  return (
    <Dialog
      title="Delete this session?"
      testId="delete-dialog"
      onClose={onClose}
      foot={
        <>
          <Button onClick={onClose}>Keep it</Button>
          <Button kind="danger" icon="trash" testId="delete-confirm" onClick={remove}>
            Delete
          </Button>
        </>
      }
    >
      <p>
        The annotations of <strong>{session.name}</strong> ({formatCount(session.num_objects, 'object')}) are
        deleted for good. Your video stays.
      </p>
    </Dialog>
  );
}
