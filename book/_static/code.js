// Code in running text may break after an underscore, a dot, a comma or a slash, and not in the middle of a word.
// Without this script the pages read the same.
(() => {
  "use strict";

  const begin = () => document.querySelectorAll("article :is(h1, h2, h3, p, li, td) code").forEach(code => {
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    const found = [];
    while (texts.nextNode()) found.push(texts.currentNode);
    for (const text of found) {
      const parts = text.data.split(/(?<=[_.,/])(?=\w)/);
      text.replaceWith(...parts.flatMap((part, place) => (place ? [document.createElement("wbr"), part] : [part])));
    }
  });
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
})();
