// Where a new session comes from: an upload, an example, or a file of the server.
import { useRef, useState } from 'preact/hooks';

import * as commands from '../commands';
import type { SessionKind } from '../protocol';
import * as store from '../store';
import { Button, Segmented } from '../ui/controls';
import { formatCount } from '../ui/format';
import { Icon } from '../ui/icons';
import { FileBrowser } from './file-browser';
import { UploadList } from './uploads';

export function NewSession() {
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
      const children = await new Promise<FileSystemEntry[]>((done, fail) => reader.readEntries(done, fail));
      if (!children.length) return files;
      for (const child of children) files.push(...(await walk(child)));
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
