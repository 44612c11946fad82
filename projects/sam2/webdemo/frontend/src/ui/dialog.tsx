import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef } from 'preact/hooks';
import { IconButton } from './controls';
import { Notices } from './notices';

interface DialogProps {
  title: string;
  wide?: boolean | undefined;
  testId?: string | undefined;
  foot?: ComponentChildren;
  children: ComponentChildren;
  onClose: () => void;
  /** Makes the dialog a form: Enter in a field submits it. */
  onSubmit?: () => void;
}

/** A modal dialog. The browser's own element keeps the focus inside and closes on Esc. */
export function Dialog(props: DialogProps) {
  const { title, wide, testId, foot, children, onClose, onSubmit } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const opener = document.activeElement as HTMLElement | null;
    dialog.current!.showModal();
    return () => opener?.focus();
  }, []);
  const body = (
    <>
      {/* Focusable, so that the arrow keys scroll a long text. */}
      <div class="dialog-body" tabIndex={0}>
        {children}
      </div>
      {foot && <div class="dialog-foot">{foot}</div>}
    </>
  );
  return (
    <dialog
      ref={dialog}
      class={wide ? 'dialog dialog-wide' : 'dialog'}
      aria-labelledby={heading}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === event.currentTarget) onClose(); // on the backdrop
      }}
    >
      <div class="dialog-head">
        <h2 id={heading}>{title}</h2>
        <IconButton icon="close" label="Close" testId="dialog-close" onClick={onClose} />
      </div>
      {onSubmit ? (
        <form
          class="dialog-form"
          onSubmit={(event) => {
            event.preventDefault();
            onSubmit();
          }}
        >
          {body}
        </form>
      ) : (
        body
      )}
      <Notices />
    </dialog>
  );
}
