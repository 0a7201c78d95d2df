/** Starts the operator console. */

import { render } from "preact";
import "../styles/base.css";
import "../styles/controls.css";
import "../styles/prose.css";
import "../styles/cards.css";
import "../styles/dialogs.css";
import "../styles/console.css";
import "../styles/plots.css";
import { listen } from "../ui/keys";
import { applyTheme } from "../ui/theme";
import { Console, followAddress } from "./Console";

applyTheme();
followAddress();
window.addEventListener("hashchange", followAddress);
listen();
render(<Console />, document.getElementById("app") as HTMLElement);
