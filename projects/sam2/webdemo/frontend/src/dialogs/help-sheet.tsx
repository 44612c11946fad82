// All shortcuts, from the same table that runs them.
import { GESTURES, SHORTCUTS, keyLabel, type HelpEntry } from '../shortcuts';
import { Dialog } from '../ui/dialog';

/** Entries by group, groups in the order of the table. */
export function groupShortcuts(entries: readonly HelpEntry[]): Map<string, HelpEntry[]> {
  const groups = new Map<string, HelpEntry[]>();
  for (const entry of entries) {
    groups.set(entry.group, [...(groups.get(entry.group) ?? []), entry]);
  }
  return groups;
}

export function HelpSheet({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Shortcuts" wide testId="help-sheet" onClose={onClose}>
      <div class="shortcut-groups">
        {[...groupShortcuts([...SHORTCUTS, ...GESTURES])].map(([group, entries]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {entries.map((entry) => (
                <div key={entry.title} data-testid="shortcut">
                  <dt>{entry.title}</dt>
                  {entry.keys.map((keys) => (
                    <dd key={keys}>
                      <kbd class="key">{keyLabel(keys)}</kbd>
                    </dd>
                  ))}
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
