// The first page: sessions, and where a new one comes from; or the form for the token.
import { useEffect, useState } from 'preact/hooks';

import * as commands from '../commands';
import { ThemeButton } from '../panels/top-bar';
import * as store from '../store';
import { Button, Field } from '../ui/controls';
import { Notices } from '../ui/notices';
import { NewSession } from './new-session';
import { SessionList } from './session-list';

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
          <SessionList />
        </div>
        <div class="start-column">
          <NewSession />
        </div>
      </main>
      <Notices />
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
