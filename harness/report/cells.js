// The cells of a large run lie packed in the page. Once their table is opened, it shows those that the filters and the
// search leave, a page at a time.
const ROWS = 100;
const cells = document.querySelector("#cells details");
const element = (tag, kind, ...inside) => {
  const made = document.createElement(tag);
  made.className = kind;
  made.append(...inside);
  return made;
};

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).json();
}

function browse(all) {
  const [table, pager] = [cells.querySelector("table"), cells.querySelector(".pager")];
  const [search, number, previous, next] = pager.querySelectorAll("input, button");
  const heads = [...table.tHead.rows[0].cells];
  const text = (column, i) => column.values[column.of[i]];
  const named = (i) => all.names.map((column) => text(column, i));
  const percent = (tenths) => (tenths === null ? "–" : (tenths / 10).toFixed(1));
  const every = [...Array(all.n).keys()];
  const words = every.map((i) => named(i).join(", ").toLowerCase());
  let [order, found, page] = [every, every, 0];

  function rate({ value, n, below, above }, i, kind, doubts) {
    const cell = element("td", kind, percent(value[i]));
    if (doubts) {
      const dagger = element("span", "bad", "†");
      dagger.title = doubts;
      cell.append(dagger);
    }
    const ends = below && [value[i] - below[i], value[i] + above[i]].map((end) => percent(value[i] === null ? null : end));
    if (n[i] && ends) cell.append(" ", element("small", "", ends.join("–")));
    if (n[i]) cell.append(" ", element("small", "", `n\u00a0${n[i]}`));
    return cell;
  }

  function row(i) {
    const place = element("div", "", ...named(i).map((name) => element("span", "", name)));
    const made = element("tr", "", element("td", "place", place));
    const failure = text(all.failure, i);
    if (failure) {
      made.append(element("td", "bad", failure));
      made.lastChild.colSpan = all.rates.length;
    } else {
      all.rates.forEach((one, k) => made.append(rate(one, i, heads[k + 1].className, k ? "" : text(all.doubts, i))));
    }
    if (heads.length > all.rates.length + 1) made.append(element("td", "more", text(all.control_of, i)));
    return made;
  }

  function show(wanted) {
    const pages = Math.max(1, Math.ceil(found.length / ROWS));
    page = Math.min(Math.max(wanted, 0), pages - 1);
    const shown = found.slice(page * ROWS, (page + 1) * ROWS);
    table.tBodies[0].replaceChildren(...shown.map(row));
    tellHeads(table);
    [previous.disabled, next.disabled] = [page === 0, page === pages - 1];
    [number.value, number.max] = [page + 1, pages];
    const counted = found.length.toLocaleString("en");
    pager.querySelector("output").textContent = `of ${pages.toLocaleString("en")}; ${counted} cells`;
  }

  function find() {
    const chosen = [...new FormData(form)].filter(([, value]) => value);
    const wanted = chosen.map(([name, value]) => [all.filters[name].of, all.filters[name].values.indexOf(value)]);
    const parts = search.value.toLowerCase().split(",").map((part) => part.trim());
    found = order.filter(
      (i) => wanted.every(([of, code]) => of[i] === code) && parts.every((part) => words[i].includes(part)),
    );
    show(0);
  }

  sorts.set(table, (_, column, down) => {
    const control = (i) => text(all.control_of, i);
    const keys = column === 0 ? words : all.rates[column - 1]?.value ?? every.map(control);
    const compare = (x, y) => (x === null) - (y === null) || (x < y ? -1 : x > y ? 1 : 0) * (down ? -1 : 1);
    order = [...every].sort((a, b) => compare(keys[a], keys[b]));
    find();
  });
  search.addEventListener("input", find);
  form.addEventListener("change", find);
  form.addEventListener("reset", () => setTimeout(find));
  previous.addEventListener("click", () => show(page - 1));
  next.addEventListener("click", () => show(page + 1));
  number.addEventListener("change", () => show(number.value - 1));
  cells.querySelector(".first").textContent = "; cells.csv has them too";
  pager.hidden = false;
  find();
  filter(); // takes away what it said of the first rows
}

// Where a browser cannot unpack them, the first ones stay.
const open = () => unpacked(document.querySelector("#packed").textContent).then(browse);
if (cells.open) open();
else cells.addEventListener("toggle", open, { once: true });
