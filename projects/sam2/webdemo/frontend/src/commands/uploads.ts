// Uploads of videos, images and annotations.
import * as api from '../api';
import * as store from '../store';
import { messageOf, notify, notifyError } from './notices';

const cancelUploads = new Map<number, () => void>();
let nextUpload = 1;

/**
 * Uploads a video, or images that become one folder.
 *
 * @returns The source for `createSession` or `importAnnotations`, null if it failed.
 */
export async function upload(files: readonly File[]): Promise<string | null> {
  let folder: string | undefined;
  for (const file of files) {
    const limit = store.info.value?.max_upload_bytes;
    if (limit !== undefined && file.size > limit) {
      const gigabytes = (limit / 2 ** 30).toFixed(1);
      notify(
        'error',
        `${file.name} is larger than the server takes (${gigabytes} GiB): start it with a larger --max-upload-gb, or open the file by its path.`,
      );
      return null;
    }
    const id = nextUpload++;
    const change = (fields: Partial<store.Upload>) => {
      store.uploads.value = store.uploads.value.map((item) =>
        item.id === id ? { ...item, ...fields } : item,
      );
    };
    store.uploads.value = [
      ...store.uploads.value,
      { id, name: file.name, loaded: 0, total: file.size, state: 'running', error: null },
    ];
    const running = api.uploadFile(file, (loaded) => change({ loaded }), folder);
    let cancelled = false;
    cancelUploads.set(id, () => {
      cancelled = true;
      running.cancel();
    });
    try {
      folder = await running.done;
      change({ state: 'done', loaded: file.size });
      setTimeout(() => dismissUpload(id), 3_000);
    } catch (error) {
      change({ state: cancelled ? 'cancelled' : 'failed', error: messageOf(error) });
      if (!cancelled) notifyError(error);
      return null;
    } finally {
      cancelUploads.delete(id);
    }
  }
  return folder ?? null;
}

export function cancelUpload(id: number): void {
  cancelUploads.get(id)?.();
}

export function dismissUpload(id: number): void {
  store.uploads.value = store.uploads.value.filter((item) => item.id !== id);
}
