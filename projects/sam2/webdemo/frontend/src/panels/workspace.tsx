// The layout of an open session: a bar on top, tools, canvas and panel, and the time line.
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';

import { Dialogs } from '../dialogs/dialogs';
import * as store from '../store';
import { Timeline } from '../timeline/timeline';
import { Segmented } from '../ui/controls';
import { Notices } from '../ui/notices';
import { Banners, JobBar } from './banners';
import { EffectsPanel } from './effects-panel';
import { FrameHead } from './frame-head';
import { ObjectsPanel } from './objects-panel';
import { ProposalsPanel } from './proposals-panel';
import { ToolBar } from './tool-bar';
import { TopBar } from './top-bar';

type Tab = 'objects' | 'proposals' | 'effects';

export function Workspace({ viewer }: { viewer: ComponentChildren }) {
  return (
    <div class="workspace" data-testid="workspace">
      <header>
        <TopBar />
        <Banners />
        <JobBar />
      </header>
      <main class="workspace-main">
        <ToolBar />
        <section class="centre" aria-label="Frame">
          <FrameHead />
          <div class="stage">
            {viewer}
            <StageMessage />
          </div>
        </section>
        <SidePanel />
      </main>
      <Timeline />
      <Dialogs />
      {store.dialog.value === null && <Notices />}
    </div>
  );
}

/** What to do first, while there is nothing to see yet. */
function StageMessage() {
  const state = store.connectionState.value;
  let message: string | null = null;
  if (!store.session.value) message = state === 'closed' ? 'The session is closed.' : 'Opening the session …';
  else if (!store.objects.value.size && ['point', 'box'].includes(store.tool.value)) {
    message = 'Click on an object, or drag a box around it.';
  }
  return message && <p class="stage-message" data-testid="stage-message">{message}</p>;
}

function SidePanel() {
  const [tab, setTab] = useState<Tab>('objects');
  return (
    <aside class="side" aria-label="Panels">
      <div class="side-tabs">
        <Segmented
          label="Panel"
          testId="tab"
          value={tab}
          options={[
            { value: 'objects', label: 'Objects' },
            { value: 'proposals', label: 'Suggest' },
            { value: 'effects', label: 'Effects' },
          ]}
          onChange={setTab}
        />
      </div>
      <div class="side-body">
        {tab === 'objects' && <ObjectsPanel />}
        {tab === 'proposals' && <ProposalsPanel onAccepted={() => setTab('objects')} />}
        {tab === 'effects' && <EffectsPanel />}
      </div>
    </aside>
  );
}
