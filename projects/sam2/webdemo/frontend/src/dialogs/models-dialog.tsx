// Which model segments: the one of the command line, released ones, and trained ones.
import { useEffect, useState } from 'preact/hooks';

import * as commands from '../commands';
import * as store from '../store';
import { Button } from '../ui/controls';
import { Dialog } from '../ui/dialog';

export function ModelsDialog({ onClose }: { onClose: () => void }) {
  const model = store.info.value?.model;
  const running = model?.name ?? '';
  const [chosen, setChosen] = useState(running);
  const [waiting, setWaiting] = useState(false);
  useEffect(() => {
    void commands.refreshModels();
  }, []);
  const use = async () => {
    setWaiting(true);
    const used = await commands.useModel(chosen);
    setWaiting(false);
    if (used) onClose();
  };
  const foot = (
    <Button kind="primary" type="submit" disabled={waiting || !chosen || chosen === running} testId="model-use">
      {waiting ? 'Loading …' : 'Use this model'}
    </Button>
  );
  return (
    <Dialog title="Model" testId="models-dialog" foot={foot} onClose={onClose} onSubmit={() => void use()}>
      {model && (
        <p class="muted">
          {model.config}
          {model.checkpoint ? ` with ${model.checkpoint}` : ' without weights'}, on {model.device}.
          Masks that exist stay; what you track from now on is the new model’s.
        </p>
      )}
      <fieldset class="choice-list" data-testid="model-list">
        <legend class="visually-hidden">Model</legend>
        {store.models.value.map((name) => (
          <label key={name} class="choice">
            <input type="radio" name="model" value={name} checked={chosen === name} data-testid="model" onChange={() => setChosen(name)} />
            <span class="grow truncate">{name}</span>
            {name === running && <span class="badge badge-success">running</span>}
          </label>
        ))}
      </fieldset>
    </Dialog>
  );
}
