// Tables that sort, the confusion matrix, and each class's photos.

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const heading of table.tHead.querySelectorAll("th[aria-sort]")) {
    heading.querySelector("button").addEventListener("click", () => {
      // Numbers from the largest on, names from A on; again the other way round.
      const column = heading.cellIndex;
      const isNumber = body.rows[0].cells[column].dataset.value !== undefined;
      const before = heading.getAttribute("aria-sort");
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const order = before === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      const key = (row) => (isNumber ? Number(row.cells[column].dataset.value) : row.cells[column].textContent);
      const compare = isNumber ? (a, b) => a - b : new Intl.Collator("en", { numeric: true }).compare;
      body.append(...[...body.rows].sort((a, b) => sign * compare(key(a), key(b))));
      for (const one of table.tHead.querySelectorAll("th[aria-sort]")) one.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", order);
    });
  }
}

const numbers = images.path.map((_, at) => at);

for (const cell of document.querySelectorAll("button.cell")) {
  cell.setAttribute("aria-expanded", "false");
  cell.setAttribute("aria-controls", "confusion-photos");
  cell.addEventListener("click", () => {
    const label = Number(cell.dataset.label);
    const predicted = Number(cell.dataset.predicted);
    const isClosing = cell.getAttribute("aria-expanded") === "true";
    for (const one of document.querySelectorAll("button.cell")) one.setAttribute("aria-expanded", "false");
    const place = byId("confusion-photos");
    place.replaceChildren();
    if (isClosing) return;
    cell.setAttribute("aria-expanded", "true");
    const list = numbers.filter((at) => images.scored[at] && images.label[at] === label && images.predicted[at] === predicted);
    list.sort((a, b) => images.p[b] - images.p[a]);
    showWall(place, `${labelOf(label)} predicted as ${labelOf(predicted)}`, list);
  });
}

for (const cell of document.querySelectorAll("td.strip")) {
  const kinds = data.examples[cell.dataset.label];
  const list = kinds ? kinds[Number(cell.dataset.examples)] : [];
  if (list.length) cell.append(...list.map((at, place) => tile(at, list, place)));
  else cell.append("–");
}
