// A button that opens a small panel, and a menu of actions made of it.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';

import type { Testable } from './controls';
import { Icon, type IconName } from './icons';

/** Places an open popover below its button, or above where there is no room. */
function placeBelow(popover: HTMLElement, button: HTMLElement) {
  const anchor = button.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const below = anchor.bottom + 4;
  const top = below + height > window.innerHeight - 8 ? anchor.top - height - 4 : below;
  popover.style.left = `${Math.max(8, Math.min(anchor.left, window.innerWidth - width - 8))}px`;
  popover.style.top = `${Math.max(8, top)}px`;
}

interface PopoverProps extends Testable {
  label: string;
  /** What the button shows. */
  face: ComponentChildren;
  kind?: 'icon' | 'quiet' | 'bare';
  role?: 'dialog' | 'menu';
  class?: string | undefined;
  disabled?: boolean | undefined;
  active?: boolean | undefined;
  /** The content, made when it opens; `close` closes it and returns the focus. */
  children: (close: () => void) => ComponentChildren;
}

/** A button that opens a small panel; a click elsewhere or Esc closes it. */
export function Popover(props: PopoverProps) {
  const { label, face, kind = 'icon', role = 'dialog', active, disabled, testId, children } = props;
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const [open, setOpen] = useState(false);
  const classes = { icon: 'button icon-button', quiet: 'button button-quiet', bare: 'bare-button' };
  const close = () => {
    setOpen(false);
    button.current!.focus();
  };
  return (
    <>
      <button
        ref={button}
        type="button"
        class={`${classes[kind]}${active ? ' button-active' : ''}`}
        aria-label={label}
        title={label}
        aria-haspopup={role}
        aria-expanded={open}
        aria-controls={id}
        disabled={disabled}
        data-testid={testId}
        onClick={() => setOpen(!open)}
      >
        {face}
      </button>
      {open && (
        <OpenPopover id={id} label={label} role={role} class={props.class} button={button.current!} onClose={() => setOpen(false)}>
          {children(close)}
        </OpenPopover>
      )}
    </>
  );
}

interface OpenPopoverProps {
  id: string;
  label: string;
  role: 'dialog' | 'menu';
  class: string | undefined;
  button: HTMLElement;
  onClose: () => void;
  children: ComponentChildren;
}

function OpenPopover({ id, label, role, button, onClose, children, ...rest }: OpenPopoverProps) {
  const panel = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const element = panel.current!;
    element.showPopover();
    placeBelow(element, button);
    const first = element.querySelector<HTMLElement>('[aria-checked=true], input, button:not(:disabled)');
    first?.focus();
    // Not `popover="auto"`: a press on the button would close it, and the click open it again.
    const onPress = (event: PointerEvent) => {
      const target = event.target as Node;
      if (!element.contains(target) && !button.contains(target)) onClose();
    };
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.preventDefault();
      event.stopPropagation();
      onClose();
      button.focus();
    };
    document.addEventListener('pointerdown', onPress, true);
    document.addEventListener('keydown', onKey, true);
    return () => {
      document.removeEventListener('pointerdown', onPress, true);
      document.removeEventListener('keydown', onKey, true);
    };
  }, []);
  return (
    <div
      ref={panel}
      id={id}
      class={`menu ${rest.class ?? ''}`}
      role={role}
      aria-label={label}
      popover="manual"
    >
      {children}
    </div>
  );
}

interface MenuItem {
  label: string;
  icon?: IconName | undefined;
  testId?: string | undefined;
  onSelect: () => void;
}

interface MenuProps extends Testable {
  label: string;
  disabled?: boolean | undefined;
  items: readonly MenuItem[];
}

/** A button with three dots that opens a list of actions. */
export function Menu({ label, disabled, items, testId }: MenuProps) {
  const move = (event: KeyboardEvent) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const entries = [...(event.currentTarget as HTMLElement).children] as HTMLElement[];
    const index = entries.indexOf(document.activeElement as HTMLElement);
    entries[(index + step + entries.length) % entries.length]!.focus();
  };
  return (
    <Popover label={label} face={<Icon name="more" />} role="menu" disabled={disabled} testId={testId}>
      {(close) => (
        <div role="presentation" onKeyDown={move}>
          {items.map((item) => (
            <button
              key={item.label}
              type="button"
              role="menuitem"
              class="menu-item"
              data-testid={item.testId}
              onClick={() => {
                close();
                item.onSelect();
              }}
            >
              {item.icon && <Icon name={item.icon} />}
              <span class="truncate">{item.label}</span>
            </button>
          ))}
        </div>
      )}
    </Popover>
  );
}
