// Draws the charts anew with a cursor to read values from, and keeps them up to date. Without it the server's drawings stay.
"use strict";
(() => {
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  if (!figures.length || typeof uPlot === "undefined") return;
  const REFRESH = 60000;

  function scaled(value, step, units) {
    let rest = value;
    for (const unit of units) {
      if (Math.abs(rest) < step) return (rest >= 100 || Number.isInteger(rest) ? rest.toFixed(0) : rest.toFixed(1)) + unit;
      rest /= step;
    }
    return rest.toFixed(1) + units[units.length - 1];
  }

  function duration(value) {
    if (value < 120) return Math.round(value) + "s";
    if (value < 7200) return Math.round(value / 60) + "m";
    if (value < 172800) return (value / 3600).toFixed(1) + "h";
    return (value / 86400).toFixed(1) + "d";
  }

  function words(series, value) {
    if (value === null || value === undefined) return "–";
    if (series === "lag") return duration(value);
    if (series === "bytes_per_second") return scaled(value, 1024, [" B/s", " KiB/s", " MiB/s", " GiB/s", " TiB/s"]);
    if (series === "rows_per_second") return scaled(value, 1000, ["/s", " k/s", " M/s"]);
    return scaled(value, 1000, ["", " k", " M", " G"]);
  }

  // Where nobody looked, the line is broken.
  function withGaps(view, series) {
    const at = [];
    const values = [];
    view.at.forEach((second, index) => {
      const before = at[at.length - 1];
      if (before !== undefined && second - before > 2 * view.step_seconds) {
        at.push(before + view.step_seconds);
        values.push(null);
      }
      at.push(second);
      values.push(view[series][index]);
    });
    return [at, values];
  }

  const plots = new Map();

  function draw(figure, view) {
    const series = figure.dataset.chart;
    const data = withGaps(view, series);
    const values = view[series].filter((value) => value !== null);
    const now = view[series][view[series].length - 1];
    const summary = "now " + (now === null ? "unknown" : words(series, now)) + ", at most " + words(series, Math.max(0, ...values));
    figure.querySelector(".summary").textContent = summary;
    const known = plots.get(figure);
    if (known) {
      known.setData(data);
      return;
    }
    const place = figure.querySelector(".plot");
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") } };
    place.replaceChildren();
    place.setAttribute("role", "img");
    place.setAttribute("aria-label", figure.querySelector("figcaption").textContent);
    const plot = new uPlot({
      width: Math.max(200, place.clientWidth),
      height: 180,
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 70, values: (_, ticks) => ticks.map((tick) => words(series, tick)) }],
      series: [{}, { label: "", stroke: colour("--bar"), width: 2, spanGaps: false, value: (_, value) => words(series, value) }],
      legend: { live: true },
    }, data, place);
    plots.set(figure, plot);
  }

  async function refresh() {
    const views = new Map();
    for (const figure of figures) {
      const source = figure.dataset.source;
      if (!views.has(source)) {
        views.set(source, fetch(source, { headers: { Accept: "application/json" } })
          .then((answer) => (answer.ok ? answer.json() : null))
          .catch(() => null));
      }
      const view = await views.get(source);
      if (view && view.at.length) draw(figure, view);
    }
  }

  new ResizeObserver(() => {
    for (const [figure, plot] of plots) {
      const width = Math.max(200, figure.querySelector(".plot").clientWidth);
      if (width !== plot.width) plot.setSize({ width, height: 180 });
    }
  }).observe(document.getElementById("main"));

  // Colours are read when a chart is made.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    for (const plot of plots.values()) plot.destroy();
    plots.clear();
    refresh();
  });

  refresh();
  setInterval(() => { if (!document.hidden) refresh(); }, REFRESH);
})();
