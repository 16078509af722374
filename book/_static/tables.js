// Every table of a page: a click on a head sorts the rows within their groups, and a link below downloads the table as CSV.
// Without this script the pages read the same.
(() => {
  "use strict";

  // A cell's words, a number as programs write it.
  const words = cell => {
    const text = cell.textContent.trim();
    return text === "–" ? "" : text.replace(/^−(?=\d)/, "-");
  };

  // The rows of each group, with the line that names it, if there is one.
  const groupsOf = table => {
    const found = [{ head: null, rows: [] }];
    for (const row of [...table.tBodies].flatMap(body => [...body.rows])) {
      const [first, ...others] = row.cells;
      const isHead = first.tagName === "TH" && others.length > 0 && others.every(cell => cell.textContent.trim() === "");
      if (isHead) found.push({ head: row, rows: [] });
      else found.at(-1).rows.push(row);
    }
    return found.filter(group => group.head || group.rows.length);
  };

  const sorted = (rows, column, direction) => {
    const key = new Map(rows.map(row => [row, words(row.cells[column])]));
    const numbers = [...key.values()].every(text => text === "" || !isNaN(parseFloat(text)));
    const order = numbers ? (a, b) => parseFloat(a) - parseFloat(b) : (a, b) => a.localeCompare(b, "en", { numeric: true });
    const filled = rows.filter(row => key.get(row) !== "").sort((a, b) => direction * order(key.get(a), key.get(b)));
    return [...filled, ...rows.filter(row => key.get(row) === "")];
  };

  const makeSortable = (table, groups) => {
    const heads = [...(table.tHead?.rows ?? [])].at(-1)?.cells ?? [];
    const widths = new Set(groups.flatMap(group => group.rows.map(row => row.cells.length)));
    if (widths.size !== 1 || !widths.has(heads.length)) return;
    const states = { none: ["ascending", 1], ascending: ["descending", -1], descending: ["none", 0] };
    [...heads].forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.title = "Sort";
      button.append(...head.childNodes);
      button.addEventListener("click", () => {
        const [state, direction] = states[head.ariaSort ?? "none"];
        [...heads].forEach(other => { other.ariaSort = null; });
        head.ariaSort = state;
        for (const { head: line, rows } of groups) {
          table.tBodies[0].append(...(line ? [line] : []), ...(direction ? sorted(rows, column, direction) : rows));
        }
      });
      head.append(button);
    });
  };

  // One name a column, from all lines of the head.
  const namesOf = (table, width) => {
    const lines = [...(table.tHead?.rows ?? [])].map(row =>
      [...row.cells].flatMap(cell => Array(cell.colSpan).fill(cell.textContent.trim())));
    return Array.from({ length: width }, (_, i) => [...new Set(lines.map(line => line[i]).filter(Boolean))].join(" / "));
  };

  const csvOf = table => {
    const groups = groupsOf(table);
    const names = namesOf(table, Math.max(0, ...groups.flatMap(group => group.rows.map(row => row.cells.length))));
    const isGrouped = groups.some(group => group.head);
    const line = (group, cells) => [...(isGrouped ? [group] : []), ...cells];
    const lines = [line("group", names)];
    for (const { head, rows } of groups) {
      const group = head ? words(head.cells[0]) : "";
      lines.push(...rows.map(row => line(group, [...row.cells].map(words))));
    }
    const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    return lines.map(cells => cells.map(quoted).join(",") + "\r\n").join("");
  };

  const addDownload = (table, place) => {
    const link = document.createElement("a");
    const page = location.pathname.split("/").at(-1).replace(/\.html$/, "");
    link.className = "csv";
    link.textContent = "CSV";
    link.title = "Download this table";
    link.download = `${page}-${table.id.replace(/^T_/, "") || place + 1}.csv`;
    link.href = "#";
    // A byte order mark, for spreadsheets.
    link.addEventListener("click", () => { link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(`\ufeff${csvOf(table)}`)}`; });
    table.after(link);
  };

  const begin = () => document.querySelectorAll("article table").forEach((table, place) => {
    const groups = groupsOf(table);
    if (groups.every(group => group.rows.length === 0)) return;
    makeSortable(table, groups);
    addDownload(table, place);
  });
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", begin);
  else begin();
})();
