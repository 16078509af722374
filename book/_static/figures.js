// A click on a figure, or Enter, shows it as large as the window; another click, or Escape, closes it.
// Without this script the pages read the same.
(() => {
  "use strict";

  const show = drawing => {
    const dialog = document.createElement("dialog");
    dialog.className = "enlarged";
    dialog.append(drawing.cloneNode(true));
    dialog.addEventListener("click", () => { if (getSelection().isCollapsed) dialog.close(); });
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  };

  const begin = () => document.querySelectorAll("article svg.drawn, article figure img").forEach(drawing => {
    drawing.tabIndex = 0;
    drawing.addEventListener("click", () => { if (getSelection().isCollapsed) show(drawing); });
    drawing.addEventListener("keydown", event => { if (event.key === "Enter") show(drawing); });
  });
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
})();
