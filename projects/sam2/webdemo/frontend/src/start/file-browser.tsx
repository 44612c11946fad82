// Folders and files of the server, inside of the roots that it was started with.
import { useEffect, useState } from 'preact/hooks';

import * as commands from '../commands';
import type { FolderEntry, FolderListing, SessionKind } from '../protocol';
import { IconButton } from '../ui/controls';
import { formatBytes } from '../ui/format';
import { Icon, type IconName } from '../ui/icons';
import { Menu } from '../ui/popover';

const ICONS: Readonly<Record<FolderEntry['kind'], IconName>> = {
  folder: 'folder',
  video: 'film',
  images: 'image',
  frames: 'film',
  annotations: 'file',
};
interface FileBrowserProps {
  /** What one looks for: media to annotate, or annotations to import. */
  purpose: 'media' | 'annotations';
  disabled?: boolean;
  /** Called with what one chose; without a kind the server decides how it is opened. */
  onChoose: (path: string, kind?: SessionKind) => void;
}

export function FileBrowser({ purpose, disabled, onChoose }: FileBrowserProps) {
  const [listing, setListing] = useState<FolderListing | null>(null);
  const [filter, setFilter] = useState('');
  const open = async (path: string) => {
    const next = await commands.browse(path);
    if (next) {
      setListing(next);
      setFilter('');
    }
  };
  useEffect(() => {
    void open('');
  }, []);
  const fits = (entry: FolderEntry) =>
    entry.name.toLowerCase().includes(filter.toLowerCase()) &&
    (purpose === 'annotations' || entry.kind !== 'annotations');
  const entries = listing?.entries.filter(fits) ?? [];
  return (
    <div class="surface" data-testid="file-browser">
      <div class="browser-path">
        <IconButton
          icon="up"
          label="Folder above"
          disabled={!listing || listing.parent === null}
          testId="browser-up"
          onClick={() => void open(listing!.parent!)}
        />
        <span class="truncate mono" title={listing?.path} data-testid="browser-path">
          {/* An isolate keeps the slash in front where the text is cut at its start. */}
          <bdi>{listing?.path || 'Folders'}</bdi>
        </span>
        <input
          class="input browser-filter"
          type="search"
          placeholder="Filter"
          aria-label="Filter the names"
          value={filter}
          data-testid="browser-filter"
          onInput={(event) => setFilter(event.currentTarget.value)}
        />
      </div>
      <ul class="entry-list">
        {entries.map((entry) => (
          <Entry
            key={entry.path}
            entry={entry}
            purpose={purpose}
            disabled={disabled ?? false}
            onOpen={() => void open(entry.path)}
            onChoose={(kind) => onChoose(entry.path, kind)}
          />
        ))}
        {listing && !entries.length && (
          <li class="empty">
            {listing.entries.length ? 'No name fits.' : 'Nothing in here can be opened.'}
          </li>
        )}
        {!listing && <li class="empty">Looking …</li>}
      </ul>
    </div>
  );
}

interface EntryProps {
  entry: FolderEntry;
  purpose: 'media' | 'annotations';
  disabled: boolean;
  onOpen: () => void;
  onChoose: (kind?: SessionKind) => void;
}

function Entry({ entry, purpose, disabled, onOpen, onChoose }: EntryProps) {
  const isImages = entry.kind === 'images' || entry.kind === 'frames';
  const isFolder = entry.kind === 'folder' || isImages;
  // A folder of masks looks like one of frames, so that any folder may be imported.
  const choosable = purpose === 'media' ? entry.kind === 'video' || isImages : !isFolder;
  return (
    <li class="row-line">
      <button
        type="button"
        class="entry grow"
        disabled={disabled}
        data-testid="browser-entry"
        data-kind={entry.kind}
        onClick={choosable ? () => onChoose() : onOpen}
      >
        <Icon name={ICONS[entry.kind]} />
        <span class="grow truncate">{entry.name}</span>
        {entry.kind !== 'folder' && <span class="badge">{entry.kind}</span>}
        {entry.size !== null && <span class="muted number">{formatBytes(entry.size)}</span>}
      </button>
      {purpose === 'annotations' && isFolder && (
        <button type="button" class="button button-quiet" disabled={disabled} data-testid="browser-choose" onClick={() => onChoose()}>
          Import
        </button>
      )}
      {purpose === 'media' && isImages && (
        <Menu
          label={`How to open ${entry.name}`}
          disabled={disabled}
          testId="browser-more"
          items={[
            { label: 'Open as one video', icon: 'film', testId: 'open-as-video', onSelect: () => onChoose('video') },
            { label: 'Open as stills', icon: 'image', testId: 'open-as-images', onSelect: () => onChoose('images') },
            { label: 'Look into the folder', icon: 'folder', testId: 'browser-enter', onSelect: onOpen },
          ]}
        />
      )}
    </li>
  );
}
