/** A text field that grows with its text. Ctrl-Enter sends, Escape gives up; Enter is a line. */

import type { Ref } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";

interface Props {
  label: string;
  value: string;
  onValue: (text: string) => void;
  onSubmit: () => void;
  onCancel?: () => void;
  placeholder?: string;
  focus?: boolean;
}

export function TextBox({ label, value, onValue, onSubmit, onCancel, placeholder, focus = true }: Props) {
  const box = useRef<HTMLTextAreaElement>(null);
  useFit(box, value);
  useLayoutEffect(() => {
    if (!focus) return;
    box.current?.focus();
    box.current?.setSelectionRange(value.length, value.length);
  }, []);
  const onKey = (event: KeyboardEvent) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      onSubmit();
    } else if (event.key === "Escape" && onCancel) {
      event.preventDefault();
      event.stopPropagation();
      onCancel();
    }
  };
  return (
    <textarea
      ref={box}
      class="box"
      aria-label={label}
      placeholder={placeholder}
      rows={1}
      value={value}
      onInput={(event) => onValue(event.currentTarget.value)}
      onKeyDown={onKey}
    />
  );
}

/** Browsers that can do it in CSS need no measuring, which costs a layout of the whole page with each letter. */
const FITS_ITSELF = CSS.supports("field-sizing", "content");

/** Makes a text field as high as its text. */
export function useFit(box: Ref<HTMLTextAreaElement> & { current: HTMLTextAreaElement | null }, value: string): void {
  useLayoutEffect(() => {
    const element = box.current;
    if (element === null || FITS_ITSELF) return;
    element.style.height = "auto";
    element.style.height = `${element.scrollHeight + 2}px`;
  }, [value]);
}
