'use strict';
// Sorting and filtering of tables; without it the page shows all rows in the order of the ranks.

const textOf = (row, column) => {
  const cell = row.cells[column];
  return (cell.dataset.v ?? cell.textContent).trim();
};

// Numbers by value, before texts; blank cells last in both directions.
const compare = (a, b, direction) => {
  if (a === '' || b === '') return (a === '') - (b === '');
  const x = Number(a), y = Number(b);
  if (!Number.isNaN(x) && !Number.isNaN(y)) return direction * (x - y);
  if (Number.isNaN(x) !== Number.isNaN(y)) return direction * (Number.isNaN(x) - Number.isNaN(y));
  return direction * a.localeCompare(b, 'en', { numeric: true });
};

const sortBy = (table, header) => {
  const column = header.cellIndex;
  const first = header.dataset.first ?? 'ascending';
  const other = first === 'ascending' ? 'descending' : 'ascending';
  const order = header.getAttribute('aria-sort') === first ? other : first;
  for (const each of table.tHead.querySelectorAll('th')) each.removeAttribute('aria-sort');
  header.setAttribute('aria-sort', order);
  const direction = order === 'ascending' ? 1 : -1;
  // Rows change places inside their group only: figures of two groups are not comparable.
  for (const body of table.tBodies) {
    const rows = [...body.rows].filter((row) => !row.classList.contains('group'));
    rows.sort((a, b) => compare(textOf(a, column), textOf(b, column), direction));
    body.append(...rows);
  }
};

for (const table of document.querySelectorAll('table.sortable')) {
  for (const header of table.tHead.querySelectorAll('th')) {
    const button = header.querySelector('button');
    if (button) button.addEventListener('click', () => sortBy(table, header));
  }
}

const applyFilter = (form) => {
  const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
  const { metric, protocol, kind } = Object.fromEntries(new FormData(form));
  let shown = 0, total = 0;
  for (const body of form.parentElement.querySelectorAll('table.sortable tbody')) {
    const group = body.querySelector('.group').textContent.toLowerCase();
    const fits = (!metric || body.dataset.metric === metric)
      && (!protocol || body.dataset.protocol === protocol)
      && (!kind || body.dataset.kind === kind);
    let inside = 0;
    for (const row of body.rows) {
      if (row.classList.contains('group')) continue;
      const text = `${row.textContent.toLowerCase()} ${group}`;
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      inside += !row.hidden;
      total += 1;
    }
    body.hidden = inside === 0;
    shown += inside;
  }
  form.querySelector('output').textContent = `${shown} of ${total} rows`;
};

for (const form of document.querySelectorAll('form.filter')) {
  form.hidden = false;
  for (const event of ['input', 'change']) form.addEventListener(event, () => applyFilter(form));
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(() => applyFilter(form)));
  applyFilter(form);
}
