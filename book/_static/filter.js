// The scoreboard's claims by verdict, paper and page: choices above the table hide the other rows. Without this script all rows show.
(() => {
  "use strict";

  const DECIDED = ["supported", "contradicted"];

  const begin = () => {
    const table = document.querySelector("article table#T_scoreboard");
    if (!table?.tHead) return;
    const heads = [...table.tHead.rows].at(-1).cells;
    const rows = [...table.tBodies].flatMap(body => [...body.rows]);
    const word = (row, column) => (row.cells[column]?.textContent ?? "").trim().replace(/, stale$/, "");
    const form = document.createElement("form");
    form.className = "filter";
    const choices = ["verdict", "of", "page"].map(name => {
      const column = [...heads].findIndex(head => head.textContent.trim() === name);
      const values = [...new Set(rows.map(row => word(row, column)).filter(Boolean))].sort();
      const select = document.createElement("select");
      select.append(new Option(`any ${name === "of" ? "source" : name}`, ""));
      if (name === "verdict") select.append(new Option("decided", "decided"));
      values.forEach(value => select.append(new Option(value, value)));
      const label = document.createElement("label");
      label.append(`${name === "of" ? "source" : name} `, select);
      form.append(label);
      return { column, select };
    });
    const fits = row => choices.every(({ column, select }) => {
      const value = word(row, column);
      return !select.value || value === select.value || (select.value === "decided" && DECIDED.includes(value));
    });
    const isHead = row => [...row.cells].slice(1).every(cell => cell.textContent.trim() === "");
    const count = document.createElement("output");
    form.append(count);
    const show = () => {
      // A line that names a group shows with the first of its rows; sorting may have moved them.
      let head = null;
      let shown = 0;
      for (const row of [...table.tBodies].flatMap(body => [...body.rows])) {
        if (isHead(row)) { head = row; head.hidden = true; continue; }
        row.hidden = !fits(row);
        if (!row.hidden) { shown += 1; if (head) head.hidden = false; }
      }
      count.textContent = `${shown} claim${shown === 1 ? "" : "s"}`;
    };
    form.addEventListener("change", show);
    form.addEventListener("submit", event => event.preventDefault());
    table.before(form);
    show();
  };
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
})();
