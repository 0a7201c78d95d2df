/** Starts the page of rater tasks. */

import { render } from "preact";
import "../styles/base.css";
import "../styles/controls.css";
import "../styles/prose.css";
import "../styles/cards.css";
import "../styles/dialogs.css";
import "../styles/tasks.css";
import { followLinks } from "../ui/Invitation";
import { listen } from "../ui/keys";
import { applyTheme } from "../ui/theme";
import { Workspace } from "./Workspace";

applyTheme();
followLinks();
listen();
render(<Workspace />, document.getElementById("app") as HTMLElement);
