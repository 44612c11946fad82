// The page: the list of sessions, or one session. The address after `#` says which.
import { useEffect } from 'preact/hooks';

import * as commands from './commands';
import * as shortcuts from './shortcuts';
import { StartPage } from './start/start-page';
import * as store from './store';
import { Workspace } from './panels/workspace';
import { Viewer } from './viewer/viewer';

function readRoute(): void {
  const match = /^#\/sessions\/([^/?]+)/.exec(location.hash);
  if (match) {
    const id = decodeURIComponent(match[1]!);
    store.route.value = { page: 'session', id };
    commands.connect(id);
  } else {
    store.route.value = { page: 'start' };
    commands.disconnect();
  }
}

export function App() {
  useEffect(() => {
    void commands.loadInfo();
    readRoute();
    window.addEventListener('hashchange', readRoute);
    window.addEventListener('keydown', shortcuts.onKeyDown);
    window.addEventListener('keyup', shortcuts.onKeyUp);
    window.addEventListener('blur', shortcuts.releaseAll);
    return () => {
      window.removeEventListener('hashchange', readRoute);
      window.removeEventListener('keydown', shortcuts.onKeyDown);
      window.removeEventListener('keyup', shortcuts.onKeyUp);
      window.removeEventListener('blur', shortcuts.releaseAll);
    };
  }, []);
  // The start page asks for the token, also at the address of a session.
  const showsStart = store.needsToken.value || store.route.value.page === 'start';
  return showsStart ? <StartPage /> : <Workspace viewer={<Viewer />} />;
}
