// What a session has to say: the connection, a recovery, a full disk, and jobs.
import * as commands from '../commands';
import * as store from '../store';
import { Button, IconButton } from '../ui/controls';
import { Icon } from '../ui/icons';

export function Banners() {
  const broken = store.frameError.value;
  return (
    <>
      {store.connectionState.value === 'reconnecting' && (
        <div class="banner banner-warning" role="status" data-testid="banner-connection">
          <Icon name="warning" />
          <p>
            The connection to the server was lost. The page connects again by itself; what you do
            meanwhile is sent then.
          </p>
        </div>
      )}
      {store.recovered.value && (
        <div class="banner" role="status" data-testid="banner-recovered">
          <Icon name="info" />
          <p>
            This session was interrupted and has been recovered. At most the frame that was being
            tracked is missing: track again from there.
          </p>
          <IconButton
            icon="close"
            label="Close this message"
            testId="dismiss-recovered"
            onClick={() => (store.recovered.value = false)}
          />
        </div>
      )}
      {broken !== null && (
        <div class="banner banner-error" role="status" data-testid="banner-broken-frame">
          <Icon name="error" />
          <p>{broken}</p>
        </div>
      )}
      {store.notices.value
        .filter((notice) => notice.permanent)
        .map((notice) => (
          <div key={notice.id} class={`banner banner-${notice.level}`} role="alert" data-testid="banner-notice">
            <Icon name={notice.level} />
            <p>{notice.message}</p>
            <IconButton icon="close" label="Close this message" onClick={() => commands.dismissNotice(notice.id)} />
          </div>
        ))}
    </>
  );
}

/** Exports and films on their way. */
export function JobBar() {
  if (!store.jobs.value.length) return null;
  return (
    <div class="jobs">
      {store.jobs.value.map((job) => (
        <JobRow key={job.id} job={job} />
      ))}
    </div>
  );
}

export function JobRow({ job }: { job: store.Job }) {
  const texts = {
    running: `${Math.round(100 * job.progress)} %`,
    done: 'is ready.',
    failed: job.error ?? 'failed.',
    cancelled: 'was cancelled.',
  };
  return (
    <div class="job-bar" role="status" data-testid="job" data-job={job.id} data-state={job.state}>
      <Icon name={job.state === 'failed' ? 'error' : 'export'} />
      <strong class="truncate">{job.name}</strong>
      {job.state === 'running' && <progress max={1} value={job.progress} aria-label={`Progress of ${job.name}`} />}
      <span class={job.state === 'failed' ? 'error-text' : 'muted number'}>{texts[job.state]}</span>
      {job.state === 'running' && (
        <Button testId="job-cancel" onClick={() => void commands.cancelJob(job.id)}>
          Cancel
        </Button>
      )}
      {job.state === 'done' && (
        <a class="button button-primary" href={job.file} download="" data-testid="job-download">
          Download
        </a>
      )}
      {job.state !== 'running' && (
        <IconButton icon="close" label={`Close ${job.name}`} onClick={() => commands.dismissJob(job.id)} />
      )}
    </div>
  );
}
