/** The page of a shared conversation (`ui/shared.py`): the server has drawn it; here its code gets the copy buttons. */

import { enliven } from "./blocks.js";

for (const block of document.querySelectorAll(".answer-block")) enliven(block);
