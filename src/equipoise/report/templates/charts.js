"use strict";
// Draws the page's charts from their data, in the colours of its style sheet, light or dark.
(function () {
  const data = document.getElementById("charts-data");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [];

  function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  }

  function paintGlyph(glyph) {
    const role = glyph.tags.find((tag) => /^s[0-9]$/.test(tag));
    if (role === undefined) return;
    if ("fill_color" in glyph) glyph.fill_color = colour(role);
    if ("line_color" in glyph && !glyph.tags.includes("dot")) glyph.line_color = glyph.tags.includes("box") ? colour("card") : colour(role);
  }

  function paint(plot) {
    for (const axis of [...plot.left, ...plot.below]) {
      axis.axis_line_color = axis.major_tick_line_color = colour("soft");
      axis.major_label_text_color = axis.axis_label_text_color = colour("ink");
    }
    for (const item of plot.center) {
      if ("grid_line_color" in item && item.dimension === 1) item.grid_line_color = colour("line");
      if (item.tags.includes("soft")) item.line_color = colour("soft");
      if ("text_color" in item) item.text_color = colour("ink");
    }
    for (const renderer of plot.renderers) paintGlyph(renderer.glyph);
  }

  async function draw(item) {
    const views = await Bokeh.embed.embed_item(item, item.target_id);
    for (const view of views) {
      if (view.model.type !== "Figure") continue;
      plots.push(view.model);
      paint(view.model);
      // a chart is one picture to a keyboard or a screen reader: its values are in the table under it
      if (view.canvas_view) view.canvas_view.events_el.tabIndex = -1;
    }
  }

  if (!data || !window.Bokeh) return;
  Bokeh.set_log_level("off");
  const items = JSON.parse(data.textContent);
  // what is seen first is drawn first
  items.reduce((before, item) => before.then(() => draw(item)), Promise.resolve()).then(function () {
    document.documentElement.dataset.charts = "drawn";
  });
  dark.addEventListener("change", () => plots.forEach(paint));
})();
