// What the pages do beyond forms and links. Each part listens on the document, so that fragments
// which htmx brings in need no set-up of their own. Nothing here decides about money.
import "./theme.js";
import "./forms.js";
import "./transfer.js";
import "./live.js";
import "./operations.js";
