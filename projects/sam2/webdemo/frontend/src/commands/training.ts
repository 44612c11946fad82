// Training runs, and the models that they and the server offer.
import * as api from '../api';
import * as store from '../store';
import { attempt } from './notices';
import { loadInfo } from './sessions';

export async function refreshTraining(): Promise<void> {
  const runs = await attempt(api.getTraining);
  if (runs) store.training.value = runs;
}

export async function startTraining(settings: api.TrainingSettings): Promise<string | null> {
  const started = await attempt(() => api.startTraining(settings));
  await refreshTraining();
  return started?.run ?? null;
}

export async function stopTraining(run: string): Promise<void> {
  await attempt(() => api.stopTraining(run));
  await refreshTraining();
}

export async function refreshModels(): Promise<void> {
  const models = await attempt(api.getModels);
  if (models) store.models.value = models.models;
}

/** Loads another model (`run:RUN/NAME` for one of a training run). */
export async function useModel(name: string): Promise<boolean> {
  const used = await attempt(() => api.useModel(name).then(() => true));
  if (used) await loadInfo();
  return used === true;
}
