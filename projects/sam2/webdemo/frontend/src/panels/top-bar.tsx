// The bar of a session: its name, undo and redo, and what opens a dialog.
import * as commands from '../commands';
import { keyLabel } from '../shortcuts';
import * as store from '../store';
import { Button, IconButton, InlineInput } from '../ui/controls';
import type { IconName } from '../ui/icons';

export function TopBar() {
  const session = store.session.value;
  return (
    <div class="top-bar" role="toolbar" aria-label="Session">
      <h1 class="visually-hidden">{session?.name ?? 'Session'}</h1>
      <IconButton
        icon="home"
        label="All sessions"
        testId="go-home"
        onClick={() => commands.closeSession()}
      />
      <div class="session-name">
        <InlineInput
          value={session?.name ?? ''}
          label="Name of the session"
          testId="session-name"
          disabled={!session}
          onCommit={(name) => {
            if (session && name) void commands.renameSession(session.id, name);
          }}
        />
      </div>
      <ConnectionBadge />
      <span class="divider" />
      <History />
      <span class="spacer" />
      <DialogButton icon="model" name="models" label={session?.model ?? 'Model'} hint="Choose the model" />
      <DialogButton icon="train" name="train" label="Train" hint="Train on this" />
      <span class="divider" />
      <DialogButton icon="import" name="import" label="Import" hint="Import annotations" />
      <DialogButton icon="export" name="export" label="Export" hint="Export annotations, films and stills" primary />
      <ThemeButton />
      <IconButton
        icon="help"
        label="Shortcuts"
        shortcut="?"
        testId="open-help"
        onClick={() => (store.dialog.value = 'help')}
      />
    </div>
  );
}

/** Undo and redo name what they act on. */
function History() {
  const undo = store.undoLabel.value;
  const redo = store.redoLabel.value;
  return (
    <div class="button-group">
      <IconButton
        icon="undo"
        label={undo === null ? 'Nothing to undo' : `Undo: ${undo}`}
        shortcut={keyLabel('Mod+Z')}
        disabled={undo === null}
        testId="undo"
        onClick={() => void commands.undo()}
      />
      <IconButton
        icon="redo"
        label={redo === null ? 'Nothing to redo' : `Redo: ${redo}`}
        shortcut={keyLabel('Mod+Shift+Z')}
        disabled={redo === null}
        testId="redo"
        onClick={() => void commands.redo()}
      />
      {undo !== null && (
        <span class="muted truncate button-label optional-label" data-testid="undo-label">
          {undo}
        </span>
      )}
    </div>
  );
}

interface DialogButtonProps {
  icon: IconName;
  name: Exclude<store.Dialog, null>;
  label: string;
  hint: string;
  primary?: boolean;
}

function DialogButton({ icon, name, label, hint, primary }: DialogButtonProps) {
  return (
    <Button
      icon={icon}
      kind={primary ? 'primary' : 'quiet'}
      title={name === 'models' ? `${hint}: ${label}` : hint}
      testId={`open-${name}`}
      onClick={() => (store.dialog.value = name)}
    >
      <span class={primary ? undefined : 'truncate button-label optional-label'}>{label}</span>
    </Button>
  );
}

/** System, light, dark: each press goes on to the next. */
export function ThemeButton() {
  const theme = store.theme.value;
  const next = { system: 'light', light: 'dark', dark: 'system' } as const;
  const icons = { system: 'monitor', light: 'sun', dark: 'moon' } as const;
  const names = { system: 'as the system', light: 'light', dark: 'dark' };
  return (
    <IconButton
      icon={icons[theme]}
      label={`Theme: ${names[theme]}; switch to ${names[next[theme]]}`}
      testId="theme"
      onClick={() => commands.setTheme(next[theme])}
    />
  );
}

function ConnectionBadge() {
  const state = store.connectionState.value;
  if (state === 'connected') {
    return (
      <span class="badge" data-testid="connection" data-state={state}>
        {store.pendingCommands.value ? 'Working …' : 'Saved'}
      </span>
    );
  }
  const names = { connecting: 'Connecting …', reconnecting: 'Offline', closed: 'Closed' };
  return (
    <span class="badge badge-warning" data-testid="connection" data-state={state}>
      {names[state]}
    </span>
  );
}
