"use strict";
(() => {
  const one = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  for (const element of all(".script-only")) element.hidden = false;

  const themes = { "": "as the system", dark: "dark", light: "light" };
  const themeButton = one("#theme");
  if (themeButton) themeButton.addEventListener("click", () => {
    const names = Object.keys(themes);
    const now = document.documentElement.dataset.theme || "";
    const next = names[(names.indexOf(now) + 1) % names.length];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    themeButton.textContent = `Theme: ${themes[next]}`;
  });

  const sortValue = (row, column) => {
    const cell = row.cells[column];
    const text = cell.textContent.trim();
    if (cell.classList.contains("number")) return "sort" in cell.dataset ? Number(cell.dataset.sort) : null;
    return text;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return typeof a === "number" ? a - b : a.localeCompare(b);
  };
  const sortBy = (table, heading, column) => {
    const falling = heading.getAttribute("aria-sort") === "ascending";
    for (const other of all("th", table.tHead)) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, value: sortValue(row, column) }));
    rows.sort((a, b) => (falling && a.value !== null && b.value !== null ? compare(b.value, a.value) : compare(a.value, b.value)));
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };
  for (const table of all("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sortBy(table, heading, column));
    });
  }

  addEventListener("beforeprint", () => {
    for (const fold of all("details:not([open])")) {
      fold.open = true;
      fold.dataset.closed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const fold of all("details[data-closed]")) {
      fold.open = false;
      delete fold.dataset.closed;
    }
  });

  const chart = one("#roc-chart");
  const data = one("#record");
  if (!chart || !data || chart.tagName !== "svg") return;
  const record = JSON.parse(data.textContent);
  const curves = all(".curve", chart);
  const tabs = all(".tabs button");
  const boxes = all(".legend input");
  const slider = one("#fpr");
  const hover = one("#roc-hover");
  const hint = hover.textContent;
  const keyOf = (group) => `${group.dataset.subject}.${group.dataset.attack}`;

  const showCurves = () => {
    const wanted = new Set(tabs.find((tab) => tab.getAttribute("aria-pressed") === "true").dataset.shows.trim().split(/\s+/));
    const subjects = new Set(boxes.filter((box) => box.checked).map((box) => box.dataset.subject));
    const visible = (key, subject) => wanted.has(key) && subjects.has(subject);
    for (const group of curves) group.classList.toggle("off", !visible(keyOf(group), group.dataset.subject));
    for (const line of all(".permitted", chart)) line.classList.toggle("off", !subjects.has(line.dataset.subject));
    for (const row of all("#readout tbody tr")) row.hidden = !visible(row.dataset.key, row.dataset.subject);
    const zone = one("#roc-zone");
    const start = Number(zone.dataset.start);
    const edges = curves.filter((group) => !group.classList.contains("off")).map((group) => Number(group.dataset.resolvable));
    const edge = Math.max(start, ...edges);
    zone.setAttribute("width", edge - start);
    const border = one("#roc-edge");
    border.setAttribute("d", border.getAttribute("d").replace(/^M[^ ]+/, `M${edge}`));
  };
  for (const tab of tabs) {
    tab.addEventListener("click", () => {
      for (const other of tabs) other.setAttribute("aria-pressed", String(other === tab));
      showCurves();
    });
  }
  for (const box of boxes) box.addEventListener("change", showCurves);

  const cursor = one("#roc-cursor");
  const moveCursor = (x) => {
    cursor.setAttribute("d", cursor.getAttribute("d").replace(/^M[^ ]+/, `M${x}`));
    cursor.classList.remove("off");
  };
  const showRate = () => {
    const stop = slider.value;
    const heading = one(`#readout thead th[data-stop="${stop}"]`);
    for (const cell of all("#readout [data-stop]")) cell.hidden = cell.dataset.stop !== stop;
    const label = heading.textContent.replace(/^at FPR\s+/, "");
    one("#fpr-value").textContent = label;
    slider.setAttribute("aria-valuetext", label);
    moveCursor(heading.dataset.x);
  };
  if (slider) {
    slider.addEventListener("input", showRate);
    showRate();
    addEventListener("beforeprint", () => { for (const cell of all("#readout [data-stop]")) cell.hidden = false; });
    addEventListener("afterprint", showRate);
  }

  const percent = (value) => `${Number((100 * value).toPrecision(3))}\u00a0%`;
  const told = (group, x) => {
    const subject = record.subjects[group.dataset.subject];
    const attack = subject.attacks[group.dataset.attack];
    const name = `${subject.name} (${attack.name})`;
    if (!attack.curve) return `${name}: see the table`;
    const { fpr, tpr, low, high, resolvable_from: from } = attack.curve;
    const at = fpr.findLastIndex((value) => value <= x);
    if (at < 0 || x < from) return `${name} at FPR ${percent(x)}: not resolvable`;
    return `${name} at FPR ${percent(fpr[at])}: TPR ${percent(tpr[at])}, ${percent(low[at])} to ${percent(high[at])}`;
  };
  const axis = { start: Number(chart.dataset.start), end: Number(chart.dataset.end), low: Number(chart.dataset.low) };
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    if (x < axis.start || x > axis.end) return;
    const fpr = axis.low ** (1 - (x - axis.start) / (axis.end - axis.start));
    moveCursor(x.toFixed(1));
    hover.replaceChildren(
      ...curves.filter((group) => !group.classList.contains("off")).map((group) => {
        const line = document.createElement("span");
        line.textContent = told(group, fpr);
        return line;
      }),
    );
  });
  chart.addEventListener("pointerleave", () => {
    hover.textContent = hint;
    if (slider) showRate();
    else cursor.classList.add("off");
  });
})();
