"use strict";
(() => {
  // Sorting: best first, then worst first, then the order of params.yaml. Cells that were not run stay at the end.
  const valueOf = (row, column) => row.cells[column].dataset.value;
  for (const table of document.querySelectorAll("table.results")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headings = [...table.tHead.rows[1].cells];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", (event) => {
        const text = column === 0;
        const first = text || event.currentTarget.dataset.better === "-1" ? "ascending" : "descending";
        const second = first === "ascending" ? "descending" : "ascending";
        const next = { none: first, [first]: second, [second]: "none" }[heading.getAttribute("aria-sort")];
        for (const other of headings) other.setAttribute("aria-sort", other === heading ? next : "none");
        const sign = next === "ascending" ? 1 : -1;
        const order = (a, b) => {
          const [x, y] = [valueOf(a, column), valueOf(b, column)];
          if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
          return sign * (text ? x.localeCompare(y) : x - y);
        };
        body.append(...(next === "none" ? original : [...original].sort(order)));
      });
    });
  }

  // Definitions beside headings, for pointer and keyboard; Escape puts one away.
  const tip = document.getElementById("tip");
  let explained;
  const hide = () => { tip.hidden = true; };
  const show = (event) => {
    explained = event.currentTarget;
    tip.textContent = explained.dataset.tip;
    tip.hidden = false;
    place();
  };
  const place = () => {
    if (tip.hidden) return;
    const at = explained.getBoundingClientRect();
    const left = Math.min(at.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = at.top - tip.offsetHeight - 6;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 0 ? above : at.bottom + 6}px`;
  };
  for (const owner of document.querySelectorAll("[data-tip]")) {
    owner.setAttribute("aria-describedby", "tip");
    owner.addEventListener("mouseenter", show);
    owner.addEventListener("focus", show);
    owner.addEventListener("mouseleave", hide);
    owner.addEventListener("blur", hide);
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  // A heading that takes the focus may scroll the page; its definition goes with it.
  document.addEventListener("scroll", place, true);

  const intervals = document.getElementById("intervals");
  const toggle = () => document.body.classList.toggle("intervals", intervals.checked);
  intervals.addEventListener("change", toggle);
  toggle();

  // A link into a folded box unfolds it.
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let box = target && target.closest("details"); box; box = box.parentElement.closest("details")) box.open = true;
    if (target) target.scrollIntoView({ block: "center" });
  };
  window.addEventListener("hashchange", reveal);
  reveal();
})();
