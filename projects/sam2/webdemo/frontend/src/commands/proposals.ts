// Masks that the model proposes on a frame.
import { batch } from '@preact/signals';

import * as store from '../store';
import { send } from './session';

export const propose = (frame: number, settings?: Readonly<Record<string, number>>) =>
  send('propose', { frame, ...(settings && { settings }) });

export const proposeText = (frame: number, text: string, threshold?: number) =>
  send('propose_text', { frame, text, ...(threshold !== undefined && { threshold }) });

/** Makes objects of proposals. */
export async function acceptProposals(
  indices: readonly number[],
  category?: string,
): Promise<void> {
  const proposals = store.proposals.value;
  if (!proposals || !indices.length) return;
  const reply = await send('accept_proposals', {
    frame: proposals.frame,
    indices,
    ...(category && { category }),
  });
  if (!reply) return;
  discardProposals();
  const created = reply.objects ?? [];
  batch(() => {
    store.activeObject.value = created.at(-1) ?? null;
    store.selection.value = new Set(created);
  });
}

export function toggleProposal(index: number): void {
  const selected = new Set(store.selectedProposals.value);
  if (!selected.delete(index)) selected.add(index);
  store.selectedProposals.value = selected;
}

export function discardProposals(): void {
  batch(() => {
    store.proposals.value = null;
    store.selectedProposals.value = new Set();
    store.hoveredProposal.value = null;
  });
}
