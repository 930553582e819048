(() => {
  const tools = document.getElementById("search");
  if (!tools) return;
  const words = tools.querySelector("input");
  const action = tools.querySelector("select");
  const count = tools.querySelector("output");
  const rows = [...document.querySelectorAll("#examples tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const show = () => {
    const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, i) => {
      const fits = (!action.value || row.dataset.action === action.value) && wanted.every((word) => texts[i].includes(word));
      row.hidden = !fits;
      shown += fits;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  };
  words.addEventListener("input", show);
  action.addEventListener("input", show);
  tools.hidden = false;
  show();
})();
