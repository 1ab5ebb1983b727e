// A click on a column's head sorts its table by it: numbers as numbers, the other way round the second time.
for (const head of document.querySelectorAll("table.sortable th")) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const body = head.closest("table").tBodies[0];
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    const key = (row) => row.cells[column].textContent.trim();
    const order = (a, b) => {
      const [x, y] = [parseFloat(key(a)), parseFloat(key(b))];
      const byNumber = Number.isNaN(x) - Number.isNaN(y) || x - y;
      return (Number.isNaN(x) && Number.isNaN(y) ? key(a).localeCompare(key(b)) : byNumber) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(order));
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  });
}
