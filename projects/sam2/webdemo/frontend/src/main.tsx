import { render } from 'preact';

import { App } from './app';
import { restoreTheme } from './commands';
import './styles/index.css';

restoreTheme();
render(<App />, document.getElementById('app')!);
