/** The handler of a form that never leaves the page. */
export function submitting(what: () => unknown): (event: Event) => void {
  return (event) => {
    event.preventDefault();
    what();
  };
}
