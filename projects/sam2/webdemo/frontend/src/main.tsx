import { render } from 'preact';

import { App } from './app';
import { restoreTheme } from './commands';

restoreTheme();
render(<App />, document.getElementById('app')!);
