// Each cell of a body knows its column's head, which the style sheet shows where a row is a card.
function tellHeads(table) {
  const heads = [...table.tHead.rows[0].cells].map((head) => head.innerText.trim());
  for (const row of [...table.tBodies].flatMap((body) => [...body.rows])) {
    if (row.cells.length === heads.length) heads.forEach((head, i) => (row.cells[i].dataset.head = head));
  }
}
document.querySelectorAll("table").forEach(tellHeads);

// The filters hide what has other values than the chosen; what has no value of that kind stays.
const form = document.querySelector("form.filters");
const rowsOf = (table) => table.querySelectorAll("tbody tr:not(.group, .remark)");
function filter() {
  const chosen = [...new FormData(form)].filter(([, value]) => value);
  for (const element of document.querySelectorAll("main :is(tr, tbody, figure)")) {
    element.hidden = chosen.some(([name, value]) => {
      const own = element.dataset[name];
      return own !== undefined && !own.split("\n").includes(value);
    });
  }
  for (const table of document.querySelectorAll("table.main")) {
    for (const group of table.querySelectorAll("tr.group")) {
      let row = group.nextElementSibling;
      while (row?.hidden) row = row.nextElementSibling;
      group.hidden = !row || row.classList.contains("group");
    }
    const rows = [...rowsOf(table)];
    const shown = rows.filter((row) => !row.closest("[hidden]")).length;
    table.caption?.remove();
    if (shown < rows.length) table.createCaption().textContent = `Filtered: ${shown} of ${rows.length} rows.`;
  }
}
form.hidden = !form.querySelector("select");
form.addEventListener("change", filter);
form.addEventListener("reset", () => setTimeout(filter));
filter(); // a reload keeps what was chosen

// A click on a column's head sorts its table by it: numbers as numbers, the other way round the second time.
const sorts = new Map(); // of the tables that hold more than the rows shown
function sort(table, column, down) {
  const body = table.tBodies[0];
  const key = (row) => row.cells[column]?.textContent.trim() ?? "";
  const order = (a, b) => {
    const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
    const byNumber = Number.isNaN(x) - Number.isNaN(y) || x - y;
    return (Number.isNaN(x) && Number.isNaN(y) ? key(a).localeCompare(key(b)) : byNumber) * (down ? -1 : 1);
  };
  body.append(...[...body.rows].sort(order));
}
for (const head of document.querySelectorAll("table.sortable th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const table = head.closest("table");
    const down = head.getAttribute("aria-sort") === "ascending";
    (sorts.get(table) ?? sort)(table, head.cellIndex, down);
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
