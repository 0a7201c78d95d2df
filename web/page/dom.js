/**
 * Making nodes. Text only ever becomes text nodes: nothing here, or anywhere in the page, parses a string as HTML.
 */

/**
 * An element. Attributes that are false or null are left out, true ones are empty, functions named `on…` listen.
 * @param {string} tag
 * @param {Record<string, string | number | boolean | null | ((event: any) => void)>} attributes
 * @param {...(Node | string | null)} children
 * @returns {any}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/**
 * One of the drawings of icons.svg.
 * @param {"up" | "down"} name
 */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `icons.svg#${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * The element of index.html with this id.
 * @param {string} id
 * @returns {any}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`index.html has no #${id}`);
  return element;
}

/**
 * Has a screen reader read `text` out, after what it is saying now.
 * @param {string} text
 */
export function announce(text) {
  if (text.trim() !== "") byId("announcer").append(el("p", {}, text));
}

/** Drops what was read out already, so that it is not met a second time while browsing the page. */
export function clearAnnouncements() {
  byId("announcer").replaceChildren();
}

let toastTimer = 0;

/**
 * Shows one sentence for a while at the top of the page.
 * @param {string} text
 */
export function toast(text) {
  const element = byId("toast");
  element.textContent = text;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => element.replaceChildren(), 6000);
}
