// Annotations that were made elsewhere become objects of this session.
import { useRef, useState } from 'preact/hooks';

import * as commands from '../commands';
import { FileBrowser } from '../start/file-browser';
import { UploadList } from '../start/uploads';
import * as store from '../store';
import { Button, Field } from '../ui/controls';
import { Dialog } from '../ui/dialog';

export function ImportDialog({ onClose }: { onClose: () => void }) {
  const [format, setFormat] = useState('');
  const [waiting, setWaiting] = useState(false);
  const picker = useRef<HTMLInputElement>(null);

  const take = async (source: string | null) => {
    if (source === null) return;
    setWaiting(true);
    const numObjects = await commands.importAnnotations(source, format || undefined);
    setWaiting(false);
    if (numObjects !== null) onClose();
  };
  const upload = async (input: HTMLInputElement) => {
    const files = [...(input.files ?? [])];
    input.value = '';
    if (files.length) await take(await commands.upload(files));
  };
  return (
    <Dialog title="Import annotations" testId="import-dialog" onClose={onClose}>
      <p class="muted">
        Masks are matched to frames by number or by file name; each becomes a mask prompt that you
        can correct. One undo takes the whole import back.
      </p>
      <Field label="Format">
        <select class="input" value={format} data-testid="import-format" onChange={(event) => setFormat(event.currentTarget.value)}>
          <option value="">Recognise it</option>
          {store.info.value?.import_formats.map((item) => (
            <option key={item.name} value={item.name}>
              {item.title}
            </option>
          ))}
        </select>
      </Field>
      <div class="row-line wrap">
        <Button icon="upload" disabled={waiting} testId="import-upload" onClick={() => picker.current!.click()}>
          Upload files …
        </Button>
        <span class="muted">{waiting ? 'Importing …' : 'JSON, XML, PNG or a ZIP of them'}</span>
        <input
          ref={picker}
          type="file"
          class="visually-hidden"
          tabIndex={-1}
          multiple
          aria-label="Annotation files"
          accept=".json,.xml,.png,.zip"
          data-testid="import-files"
          onChange={(event) => void upload(event.currentTarget)}
        />
      </div>
      <UploadList />
      <FileBrowser purpose="annotations" disabled={waiting} onChoose={(path) => void take(path)} />
    </Dialog>
  );
}
