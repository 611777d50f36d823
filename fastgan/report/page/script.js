"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const several = data.runs.length > 1;
  const number = new Intl.NumberFormat("en");

  const lastStep = Math.max(1, ...data.charts.flatMap((chart) => chart.curves.flatMap((curve) => curve.x.slice(-1))));

  // --- charts: all share their range of steps, the line of the samples' slider, and the shade of a finding
  const plots = [];
  const marks = { step: null, shade: null };
  let syncing = false;

  const shapes = () => [
    ...(marks.shade ? [{ type: "rect", xref: "x", yref: "paper", x0: marks.shade[0], x1: marks.shade[1], y0: 0, y1: 1, line: { width: 0 }, fillcolor: colour("shade"), layer: "below" }] : []),
    ...(marks.step === null ? [] : [{ type: "line", xref: "x", yref: "paper", x0: marks.step, x1: marks.step, y0: 0, y1: 1, line: { width: 1, dash: "dot", color: colour("soft") } }]),
  ];
  let waiting = false;
  const redrawMarks = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; plots.forEach((plot) => Plotly.relayout(plot, { shapes: shapes() })); });
  };

  const layout = (chart) => {
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
    return {
      height: 250, margin: { l: 8, r: 8, t: 8, b: 8 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("soft") },
      xaxis: { ...axis, tickformat: ",", nticks: 6, range: [0, lastStep] },
      yaxis: { ...axis, type: chart.log ? "log" : "linear", rangemode: chart.zero ? "tozero" : "normal", nticks: 6, dtick: chart.log ? 1 : null, exponentformat: "power" },
      hovermode: "x unified", hoverlabel: { bgcolor: colour("card"), bordercolor: colour("line"), font: { color: colour("ink") } },
      showlegend: true, legend: { orientation: "h", y: -0.16, yanchor: "top", x: 0 }, dragmode: "zoom", shapes: shapes(),
    };
  };
  const options = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const dashes = ["solid", "dash", "dot", "dashdot", "longdash"];
  const line = (curve) => several
    ? { color: colour("c" + (curve.run % 6)), dash: dashes[curve.kind % 5], width: 1.6 }
    : { color: colour("c" + (curve.kind % 6)), width: 1.6 };
  const traces = (chart) => chart.curves.map((curve) => ({
    x: curve.x, y: curve.y, name: escape(several ? data.runs[curve.run].title + ": " + curve.name : curve.name),
    mode: curve.x.length < 3 ? "lines+markers" : "lines", line: line(curve), connectgaps: false,
  }));
  // plotly.js reads some tags in names as markup
  function escape(text) { return text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;"); }

  const findings = data.runs.flatMap((run, index) => run.findings.map((finding) => ({ ...finding, run: index })));
  const findingTraces = () => findings.map((finding) => ({
    type: "bar", orientation: "h", base: [finding.first], x: [Math.max(finding.last - finding.first, 1)],
    y: [escape(several ? data.runs[finding.run].title + ": " + finding.name : finding.name)], width: 0.55, showlegend: false,
    marker: { color: colour("c" + (several ? finding.run % 6 : 1)), opacity: 0.85 },
    hovertemplate: `${escape(finding.name)}<br>steps ${number.format(finding.first)} to ${number.format(finding.last)}<extra></extra>`,
  }));
  const findingLayout = () => {
    const rows = new Set(findings.map((finding) => finding.run + finding.name)).size;
    const found = layout({});
    return { ...found, height: 50 + 34 * rows, hovermode: "closest", barmode: "overlay",
      yaxis: { ...found.yaxis, type: "category", autorange: "reversed", fixedrange: true, tickfont: { color: colour("ink") } } };
  };

  const made = [];
  function plot(element, makeTraces, makeLayout) {
    plots.push(element);
    made.push(() => Plotly.react(element, makeTraces(), makeLayout(), options));
    Plotly.newPlot(element, makeTraces(), makeLayout(), options);
    element.on("plotly_relayout", (change) => {
      if (syncing) return;
      const range = change["xaxis.range"] || [change["xaxis.range[0]"], change["xaxis.range[1]"]];
      if (range[0] === undefined) return;
      syncing = true;
      const to = { "xaxis.range": [...range] };
      Promise.all(plots.filter((other) => other !== element).map((other) => Plotly.relayout(other, to))).finally(() => { syncing = false; });
    });
  }

  const timeline = document.getElementById("findings-chart");
  if (timeline) plot(timeline, findingTraces, findingLayout);
  const charts = document.getElementById("charts");
  const places = data.charts.map((chart) => {
    const article = document.createElement("article");
    const title = article.appendChild(document.createElement("h3"));
    title.textContent = chart.title;
    article.appendChild(document.createElement("p")).textContent = chart.note;
    const element = article.appendChild(document.createElement("div"));
    element.className = "plot";
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", "Chart: " + chart.title + ", by step");
    charts.appendChild(article);
    return element;
  });
  data.charts.forEach((chart, index) => plot(places[index], () => traces(chart), () => layout(chart)));
  for (const item of all(".findings li")) {
    const show = () => { marks.shade = [Number(item.dataset.first), Number(item.dataset.last)]; redrawMarks(); };
    const hide = () => { marks.shade = null; redrawMarks(); };
    item.addEventListener("mouseenter", show);
    item.addEventListener("mouseleave", hide);
    item.addEventListener("focus", show);
    item.addEventListener("blur", hide);
  }

  // --- light and dark
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const recolour = () => { made.forEach((draw) => draw()); attention.forEach((draw) => draw()); };
  document.getElementById("theme").addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; recolour(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);

  // --- a button that plays a slider
  function player(button, slider, milliseconds, show, playing) {
    let timer = null;
    const set = (on) => {
      clearInterval(timer);
      timer = on ? setInterval(() => {
        if (document.hidden) return;
        slider.value = Number(slider.value) === Number(slider.max) ? 0 : Number(slider.value) + 1;
        show();
      }, milliseconds) : null;
      button.textContent = on ? "❚❚" : "▶";
      button.setAttribute("aria-pressed", String(on));
    };
    button.addEventListener("click", () => set(timer === null));
    slider.addEventListener("input", () => { set(false); show(); });
    set(playing);
  }

  // --- samples over time: of several runs, each shows its newest picture at the slider's step
  const slider = document.getElementById("samples-slider");
  if (slider) {
    const steps = [...new Set(data.runs.flatMap((run) => run.pictures.map((picture) => picture.step)))].sort((a, b) => a - b);
    slider.max = Math.max(steps.length - 1, 0);
    slider.value = slider.max;
    const show = () => {
      const step = steps[Number(slider.value)];
      const text = "step " + number.format(step);
      document.getElementById("samples-step").textContent = text;
      slider.setAttribute("aria-valuetext", text);
      for (const image of all("img.sample")) {
        const { pictures, title } = data.runs[Number(image.dataset.run)];
        const picture = pictures.filter((one) => one.step <= step).pop() || pictures[0];
        image.src = picture.src;
        image.alt = `Samples of ${title} at step ${picture.step}`;
        document.querySelector(`.sample-step[data-run="${image.dataset.run}"]`).textContent = "step " + number.format(picture.step);
      }
      marks.step = steps.length > 1 ? step : null;
      redrawMarks();
    };
    player(document.getElementById("samples-play"), slider, 600, show, false);
    show();
  }

  // --- latent walk: frames are the rows of one sheet
  const walk = document.getElementById("walk-slider");
  if (walk) {
    const canvases = all("canvas.walk").map((canvas) => {
      const about = data.runs[Number(canvas.dataset.run)].walk;
      const side = about.side;
      const columns = Math.ceil(about.count / 2);  // two rows of images
      canvas.width = columns * side;
      canvas.height = 2 * about.height;
      canvas.style.imageRendering = side <= 64 ? "pixelated" : "auto";
      canvas.style.maxWidth = columns * Math.max(side * 2, 150) + "px";
      const sheet = new Image();
      sheet.src = about.src;
      return { canvas, about, sheet, columns, side };
    });
    walk.max = Math.max(...canvases.map(({ about }) => about.frames - 1));
    const show = () => {
      for (const { canvas, about, sheet, columns, side } of canvases) {
        const context = canvas.getContext("2d");
        const top = (Number(walk.value) % about.frames) * about.height;
        for (let i = 0; i < about.count; i++) {
          context.drawImage(sheet, i * side, top, side, about.height, (i % columns) * side, Math.floor(i / columns) * about.height, side, about.height);
        }
      }
    };
    canvases.forEach(({ sheet }) => { sheet.onload = show; });
    player(document.getElementById("walk-play"), walk, 90, show, !still);
  }

  // --- attention: the grey image, and light where the point under the pointer looks
  const attention = [];
  for (const block of all(".attention")) {
    const { images, layers } = data.runs[Number(block.dataset.run)].attention;
    for (const layer of layers) layer.bytes = Uint8Array.from(atob(layer.data), (letter) => letter.charCodeAt(0));
    const choice = block.querySelector("select");
    const text = block.querySelector(".hint");
    const chosen = () => layers[choice ? Number(choice.value) : 0];
    const place = ({ shape: [, rows, columns, height, width] }, index, row, column) => {
      const start = ((index * rows + row) * columns + column) * height * width;
      return [start, start + height * width];
    };
    // how far the attention is from looking everywhere alike
    const peak = (weights) => (Math.max(...weights) * weights.length) / Math.max(weights.reduce((sum, one) => sum + one, 0), 1);
    const say = (index, row, column) => {
      const layer = chosen();
      const times = peak(layer.bytes.slice(...place(layer, index, row, column)));
      text.textContent = `Image ${index + 1}, row ${row + 1} of ${layer.shape[1]}, column ${column + 1} of ${layer.shape[2]}: the strongest place has ${times.toFixed(1)} times the mean weight.`;
    };
    for (const canvas of all("canvas", block)) {
      const index = Number(canvas.dataset.image);
      const source = new Image();
      const at = { y: 0.5, x: 0.5, seen: index === 0 };
      const map = document.createElement("canvas");
      const draw = () => {
        const size = (canvas.width = canvas.height = 320);
        const context = canvas.getContext("2d");
        context.imageSmoothingEnabled = source.naturalWidth > 128;
        if (!at.seen) { context.drawImage(source, 0, 0, size, size); return; }
        const layer = chosen();
        const [, rows, columns, height, width] = layer.shape;
        const row = Math.min(Math.floor(at.y * rows), rows - 1), column = Math.min(Math.floor(at.x * columns), columns - 1);
        canvas.dataset.point = row + "," + column;
        context.filter = "grayscale(1) brightness(0.55)";
        context.drawImage(source, 0, 0, size, size);
        context.filter = "none";
        map.width = width;
        map.height = height;
        const pixels = new ImageData(width, height);
        const weights = layer.bytes.slice(...place(layer, index, row, column));
        const strength = Math.min(0.2 + 0.25 * (peak(weights) - 1), 0.85) * 255;
        weights.forEach((weight, i) => pixels.data.set([255, 176, 64, strength * (weight / 255) ** 1.5], 4 * i));
        map.getContext("2d").putImageData(pixels, 0, 0);
        context.imageSmoothingEnabled = true;
        context.drawImage(map, 0, 0, size, size);
        context.beginPath();
        context.arc(((column + 0.5) / columns) * size, ((row + 0.5) / rows) * size, 7, 0, 2 * Math.PI);
        context.lineWidth = 3;
        context.fillStyle = "#e5484d";
        context.strokeStyle = "#fff";
        context.fill();
        context.stroke();
      };
      const point = (y, x) => {
        Object.assign(at, { y: Math.min(Math.max(y, 0), 0.999), x: Math.min(Math.max(x, 0), 0.999), seen: true });
        draw();
        say(index, ...canvas.dataset.point.split(",").map(Number));
      };
      const follow = (event) => {
        const box = canvas.getBoundingClientRect();
        point((event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width);
      };
      canvas.addEventListener("pointermove", follow);
      canvas.addEventListener("pointerdown", follow);
      canvas.addEventListener("keydown", (event) => {
        const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
        if (!move) return;
        event.preventDefault();
        const [, rows, columns] = chosen().shape;
        point(at.y + move[0] / rows, at.x + move[1] / columns);
      });
      source.onload = draw;
      source.src = images[index];
      attention.push(draw);
    }
    if (choice) choice.addEventListener("change", () => attention.forEach((draw) => draw()));
  }
})();
