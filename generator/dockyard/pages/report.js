"use strict";
(() => {
  const body = document.querySelector("tbody");
  const rows = [...body.rows];
  const [words, state, group] = ["words", "state", "group"].map((id) => document.getElementById(id));
  const texts = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const groups = new Map(rows.map((row) => [row, [...row.querySelectorAll(".group")].map((each) => each.textContent)]));

  const filter = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      row.hidden =
        !wanted.every((word) => texts.get(row).includes(word)) ||
        (state.value !== "" && row.dataset.state !== state.value) ||
        (group !== null && group.value !== "" && !groups.get(row).includes(group.value));
      count += row.hidden ? 0 : 1;
    }
    document.getElementById("count").textContent = `${count} of ${rows.length}`;
    document.getElementById("none").hidden = count > 0;
  };

  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const heads = [...document.querySelectorAll("thead th")];
  const sort = (column) => {
    const next = { none: "ascending", ascending: "descending", descending: "none" };
    const order = next[heads[column].getAttribute("aria-sort")];
    heads.forEach((head, place) => head.setAttribute("aria-sort", place === column ? order : "none"));
    const sign = order === "descending" ? -1 : 1;
    const place = (row) => Number(row.dataset.place);
    const key = (row) => row.cells[column].dataset.key;
    rows.sort((one, other) =>
      (order === "none" ? 0 : sign * compare(key(one), key(other))) || place(one) - place(other));
    body.append(...rows);
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(column));
    head.replaceChildren(button);
  });
  for (const control of [words, state, group]) {
    control?.addEventListener("input", filter);
  }
  document.querySelector(".controls").hidden = false;
  filter();
})();
