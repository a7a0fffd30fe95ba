// Draws the figures of a page (book/_tools/figures.py), follows the light and the dark theme, and fits narrow screens.
(function () {
  "use strict";

  const CONFIG = { responsive: true, displaylogo: false, displayModeBar: "hover" };

  function colours() {
    const style = getComputedStyle(document.documentElement);
    const read = (name) => style.getPropertyValue(name).trim();
    return { ink: read("--book-ink"), grid: read("--book-grid"), surface: read("--book-surface") };
  }

  // The attributes of a layout that carry the theme's colours, for as many axes and controls as the figure has.
  function themed(layout) {
    const { ink, grid, surface } = colours();
    const update = {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      "font.color": ink,
      "hoverlabel.bgcolor": surface,
      "hoverlabel.bordercolor": grid,
      "hoverlabel.font.color": ink,
      "modebar.bgcolor": "rgba(0,0,0,0)",
      "modebar.color": ink,
      "legend.bgcolor": "rgba(0,0,0,0)",
    };
    for (const key of new Set(["xaxis", "yaxis", ...Object.keys(layout)])) {
      if (/^[xy]axis\d*$/.test(key)) {
        for (const part of ["gridcolor", "zerolinecolor", "linecolor", "tickcolor"]) update[`${key}.${part}`] = grid;
      } else if (/^scene\d*$/.test(key)) {
        for (const axis of ["xaxis", "yaxis", "zaxis"]) {
          update[`${key}.${axis}.gridcolor`] = grid;
          update[`${key}.${axis}.backgroundcolor`] = "rgba(0,0,0,0)";
        }
      } else if (key === "updatemenus" || key === "sliders") {
        layout[key].forEach((_, i) => {
          update[`${key}[${i}].bgcolor`] = surface;
          update[`${key}[${i}].bordercolor`] = grid;
        });
      }
    }
    return update;
  }

  function set(object, path, value) {
    const keys = path.split(/[.[\]]+/).filter(Boolean);
    const last = keys.pop();
    for (const key of keys) object = object[key] = object[key] || {};
    object[last] = value;
  }

  async function draw(figure) {
    const plot = figure.querySelector(".book-figure-plot");
    const { data, layout, frames } = JSON.parse(figure.querySelector("script").textContent);
    layout.autosize = true;
    delete layout.width;
    if (matchMedia("(pointer: coarse)").matches) layout.dragmode = false; // a swipe scrolls the page
    for (const [path, value] of Object.entries(themed(layout))) set(layout, path, value);
    await Plotly.newPlot(plot, data, layout, CONFIG);
    if (frames && frames.length) await Plotly.addFrames(plot, frames);
    plot.on("plotly_afterplot", () => operable(plot));
    operable(plot);
    if (layout.meta.search) searchable(figure, plot, layout.meta.search);
    figure.dataset.drawn = "true";
  }

  // plotly.js draws buttons, menus and sliders for the mouse alone. This gives them to the keyboard and to screen
  // readers. The entries of a menu are there only while it is open.
  function operable(plot) {
    const [header, entry] = [".updatemenu-header", ".updatemenu-dropdown-button"];
    plot.querySelectorAll([".updatemenu-button", header, entry].join()).forEach((button) => {
      describe(button, { role: "button", tabindex: 0, "aria-label": button.textContent });
      if (button.matches(header)) button.setAttribute("aria-haspopup", "true");
      button.onkeydown = (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        const next = { [header]: entry, [entry]: header }[`.${button.classList[0]}`]; // where the focus goes
        button.dispatchEvent(new MouseEvent("click", { bubbles: true }));
        operable(plot);
        if (next) plot.querySelector(next)?.focus();
      };
    });
    plot.querySelectorAll(".slider-group").forEach((group, index) => {
      const { steps, active, currentvalue } = plot.layout.sliders[index];
      const now = active || 0;
      const name = (currentvalue && currentvalue.prefix) || "step";
      describe(group, { role: "slider", tabindex: 0, "aria-label": name, "aria-valuemin": 0 });
      describe(group, { "aria-valuemax": steps.length - 1, "aria-valuenow": now, "aria-valuetext": steps[now].label });
      group.onkeydown = async (event) => {
        const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 }[event.key];
        if (!by) return;
        event.preventDefault();
        const next = Math.min(Math.max(now + by, 0), steps.length - 1);
        if (next === now) return;
        await Plotly.relayout(plot, { [`sliders[${index}].active`]: next });
        await Plotly[steps[next].method](plot, ...steps[next].args);
      };
    });
  }

  // A box above a figure whose layout has meta.search, its label. It marks the points whose text, the one that is shown
  // beside the mouse, holds what is typed, and lists the first of them for those who cannot point.
  const LISTED = 8;

  function searchable(figure, plot, label) {
    const marks = { "&lt;": "<", "&gt;": ">", "&#34;": '"', "&#x27;": "'", "&amp;": "&" };
    const plain = (text) => text.replaceAll("<br>", " · ").replace(/&(lt|gt|#34|#x27|amp);/g, (mark) => marks[mark]);
    const texts = plot.data.map((trace) => (Array.isArray(trace.text) ? trace.text : []).map(plain));
    const lower = texts.map((trace) => trace.map((text) => text.toLowerCase()));

    const box = document.createElement("label");
    const input = document.createElement("input");
    input.type = "search";
    box.append(label, input);
    const found = document.createElement("p");
    found.setAttribute("role", "status");
    const list = document.createElement("ul");
    const search = document.createElement("div");
    search.className = "book-figure-search";
    search.append(box, found, list);
    plot.before(search);

    let waiting;
    input.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => {
        const wanted = input.value.toLowerCase();
        const hits = lower.map((trace) => trace.flatMap((text, i) => (wanted && text.includes(wanted) ? [i] : [])));
        const every = hits.flatMap((places, t) => places.map((i) => texts[t][i]));
        found.textContent = wanted ? `${every.length} of ${texts.flat().length} features` : "";
        list.replaceChildren(
          ...every.slice(0, LISTED).map((text) => Object.assign(document.createElement("li"), { textContent: text })),
        );
        Plotly.restyle(plot, { selectedpoints: hits.map((places) => (wanted ? places : null)) });
      }, 150);
    });
  }

  function describe(element, attributes) {
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  }

  function plots() {
    return document.querySelectorAll(".book-figure[data-drawn] .book-figure-plot");
  }

  document.querySelectorAll(".book-figure").forEach(draw);
  new MutationObserver(() => plots().forEach((plot) => Plotly.relayout(plot, themed(plot.layout)))).observe(
    document.documentElement,
    { attributes: true, attributeFilter: ["data-theme"] },
  );
})();
