(() => {
  // The table of rows: search, filter, and twenty at a time. On paper all rows that fit are printed.
  const ROWS_SHOWN = 20;
  const tools = document.getElementById("search");
  if (tools) {
    const words = tools.querySelector("input");
    const action = tools.querySelector("select");
    const count = tools.querySelector("output");
    const [previous, next] = tools.querySelectorAll("button");
    const rows = [...document.querySelectorAll("#examples tbody tr")];
    const texts = rows.map((row) => row.textContent.toLowerCase());
    let first = 0;
    const show = () => {
      const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
      const fitting = rows.filter(
        (row, i) => (!action.value || row.dataset.action === action.value) && wanted.every((word) => texts[i].includes(word)),
      );
      first = Math.max(0, Math.min(first, Math.floor((fitting.length - 1) / ROWS_SHOWN) * ROWS_SHOWN));
      const last = Math.min(first + ROWS_SHOWN, fitting.length);
      rows.forEach((row) => (row.hidden = true));
      fitting.forEach((row, i) => {
        row.hidden = false;
        row.classList.toggle("elsewhere", i < first || i >= last);
      });
      previous.disabled = first === 0;
      next.disabled = last === fitting.length;
      const all = fitting.length === rows.length;
      const found = all ? `${rows.length} rows` : `${fitting.length} of ${rows.length} rows`;
      const page = `${first + 1} to ${last} of ${fitting.length} ${all ? "rows" : "rows that fit"}`;
      count.textContent = fitting.length > ROWS_SHOWN ? page : found;
    };
    const turn = (by) => {
      first += by * ROWS_SHOWN;
      show();
      document.getElementById("examples").scrollIntoView({ block: "start" });
    };
    const search = () => {
      first = 0;
      show();
    };
    words.addEventListener("input", search);
    action.addEventListener("input", search);
    previous.addEventListener("click", () => turn(-1));
    next.addEventListener("click", () => turn(1));
    tools.hidden = false;
    show();
  }

  // The contents list marks the section that is read.
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const sections = [...links.keys()].map((id) => document.getElementById(id)).filter(Boolean);
  const mark = () => {
    const line = innerHeight / 3;
    const read = sections.filter((section) => section.getBoundingClientRect().top <= line).pop() || sections[0];
    for (const [id, link] of links) {
      if (id === read.id) {
        if (link.getAttribute("aria-current")) continue;
        link.setAttribute("aria-current", "true");
        const list = link.closest("ol");
        list.scrollTo({ left: link.offsetLeft - list.clientWidth / 3 });
      } else link.removeAttribute("aria-current");
    }
  };
  addEventListener("scroll", mark, { passive: true });
  mark();

  // What is folded is on paper too.
  const folded = [];
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details:not([open])")) {
      details.open = true;
      folded.push(details);
    }
  });
  addEventListener("afterprint", () => folded.splice(0).forEach((details) => (details.open = false)));
})();
