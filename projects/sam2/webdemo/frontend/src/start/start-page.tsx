// The first page: sessions, and where a new one comes from.
import { useEffect, useRef, useState } from 'preact/hooks';

import { thumbUrl } from '../api';
import * as commands from '../commands';
import { ThemeButton } from '../panels/top-bar';
import type { SessionEntry, SessionKind } from '../protocol';
import * as store from '../store';
import { Button, Field, IconButton, InlineInput, Segmented } from '../ui/controls';
import { Dialog } from '../ui/dialog';
import { formatAgo, formatCount } from '../ui/format';
import { Icon } from '../ui/icons';
import { Notices } from '../ui/notices';
import { FileBrowser } from './file-browser';
import { UploadList } from './uploads';

export function StartPage() {
  useEffect(() => {
    void commands.refreshSessions();
  }, []);
  if (store.needsToken.value) return <TokenForm />;
  return (
    <div class="start" data-testid="start-page">
      <header class="start-head">
        <svg class="logo" viewBox="0 0 24 24" aria-hidden="true">
          <path
            d="M5 3h9l5 5v8l-5 5H5l-2-2V5z"
            fill="none"
            stroke="currentColor"
            stroke-width="2"
            stroke-linejoin="round"
            stroke-dasharray="4 2.5"
          />
          <circle cx="11" cy="12" r="3" fill="currentColor" />
        </svg>
        <h1>Annotate videos and images</h1>
        {store.info.value && (
          <span class="muted truncate" data-testid="model-name">
            {store.info.value.model.name} on {store.info.value.model.device}
          </span>
        )}
        <ThemeButton />
      </header>
      <main class="start-body">
        <div class="start-column">
          <Sessions />
        </div>
        <div class="start-column">
          <NewSession />
        </div>
      </main>
      <Notices />
    </div>
  );
}

function Sessions() {
  const sessions = store.sessions.value;
  const [doomed, setDoomed] = useState<SessionEntry | null>(null);
  const [lost, setLost] = useState<SessionEntry | null>(null);
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
          <SessionCard key={session.id} session={session} onDelete={() => setDoomed(session)} onFind={() => setLost(session)} />
        ))}
        {sessions?.length === 0 && (
          <div class="empty">
            <Icon name="film" />
            <p>No sessions yet. Open an example, a file of this computer, or upload one.</p>
          </div>
        )}
        {!sessions && <div class="empty">Looking for sessions …</div>}
      </div>
      {lost && <FindDialog session={lost} onClose={() => setLost(null)} />}
      {doomed && <DeleteDialog session={doomed} onClose={() => setDoomed(null)} />}
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

function NewSession() {
  // Stills are separate images; the frames of a folder may also be one video.
  const [kind, setKind] = useState<SessionKind>('video');
  const examples = store.info.value?.examples ?? [];
  const opening = store.opening.value;
  return (
    <>
      <section aria-label="New session">
        <header>
          <h2>New session</h2>
          {opening && <span class="badge badge-accent">Opening …</span>}
        </header>
        <Dropzone kind={kind} />
        <UploadList />
        <div class="row-line">
          <span class="grow muted">Uploaded images are</span>
          <Segmented
            label="Uploaded images are"
            testId="new-kind"
            value={kind}
            options={[
              { value: 'video', label: 'One video' },
              { value: 'images', label: 'Stills' },
            ]}
            onChange={setKind}
          />
        </div>
      </section>
      {examples.length > 0 && (
        <section aria-label="Examples">
          <h2>Examples</h2>
          <ul class="surface entry-list">
            {examples.map((example) => (
              <li key={example.name}>
                <button
                  type="button"
                  class="entry"
                  disabled={opening}
                  data-testid={`example-${example.name}`}
                  onClick={() => void commands.createSession(`example:${example.name}`)}
                >
                  <Icon name="film" />
                  <span class="grow truncate">{example.title}</span>
                  <span class="muted number">{formatCount(example.num_frames, 'frame')}</span>
                </button>
              </li>
            ))}
          </ul>
        </section>
      )}
      <section aria-label="Files of the server">
        <h2>Files</h2>
        <FileBrowser purpose="media" disabled={opening} onChoose={(path, how) => void commands.createSession(path, how)} />
      </section>
    </>
  );
}

/** All files of a drop; folders are looked through. */
async function droppedFiles(transfer: DataTransfer): Promise<File[]> {
  const entries = [...transfer.items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  const walk = async (entry: FileSystemEntry): Promise<File[]> => {
    if (entry.isFile) {
      return [await new Promise<File>((done, fail) => (entry as FileSystemFileEntry).file(done, fail))];
    }
    const reader = (entry as FileSystemDirectoryEntry).createReader();
    const files: File[] = [];
    for (;;) {
      // A reader gives a hundred entries at a time, and none at the end.
      const some = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!some.length) return files;
      for (const child of some) files.push(...(await walk(child)));
    }
  };
  return (await Promise.all(entries.map(walk))).flat();
}

/** Takes files that are dropped or picked: a video, or images of one session. */
function Dropzone({ kind }: { kind: SessionKind }) {
  const [over, setOver] = useState(false);
  const picker = useRef<HTMLInputElement>(null);
  const take = async (all: readonly File[]) => {
    // Folders hold other things as well: notes, thumbnails of the system.
    const media = all.filter((file) => /^(video|image)\//.test(file.type) || /\.(mkv|avi)$/i.test(file.name));
    const files = media.sort((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
    const images = files.filter((file) => file.type.startsWith('image/'));
    if (!files.length) {
      commands.notify('error', 'There is no video or image in what you chose.');
      return;
    }
    if (images.length < files.length && files.length > 1) {
      commands.notify('error', 'Upload one video, or several images, but not both at once.');
      return;
    }
    const source = await commands.upload(files);
    if (source) await commands.createSession(source, images.length ? kind : 'video', files[0]!.name);
  };
  return (
    <div
      class={over ? 'drop-zone over' : 'drop-zone'}
      data-testid="drop-zone"
      onDragOver={(event) => {
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={() => setOver(false)}
      onDrop={(event) => {
        event.preventDefault();
        setOver(false);
        if (event.dataTransfer) void droppedFiles(event.dataTransfer).then(take);
      }}
    >
      <Icon name="upload" />
      <p>Drop a video, images or a folder of images here</p>
      <Button kind="primary" testId="upload-button" onClick={() => picker.current!.click()}>
        Choose files …
      </Button>
      <input
        ref={picker}
        type="file"
        class="visually-hidden"
        tabIndex={-1}
        multiple
        accept="video/*,image/*,.mkv,.avi"
        aria-label="Video or images to upload"
        data-testid="upload-files"
        onChange={(event) => {
          const input = event.currentTarget;
          const files = [...(input.files ?? [])];
          input.value = '';
          if (files.length) void take(files);
        }}
      />
    </div>
  );
}

function TokenForm() {
  const [token, setToken] = useState('');
  return (
    <main class="start">
      <form
        class="surface token-form"
        data-testid="token-form"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim()) commands.enterToken(token.trim());
        }}
      >
        <h1>Token</h1>
        <Field label="This server asks for a token" hint="It stands in the address that mmsam2 demo printed.">
          <input
            class="input"
            type="password"
            autocomplete="current-password"
            value={token}
            data-testid="token"
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </Field>
        <Button kind="primary" type="submit" disabled={!token.trim()} testId="token-submit">
          Open
        </Button>
      </form>
    </main>
  );
}
