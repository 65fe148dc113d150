// Draws the paths up to the step that the slider shows. Nothing moves before somebody asks for it.
document.addEventListener("DOMContentLoaded", function () { // after the page has drawn its pictures
  "use strict";
  var frames = JSON.parse(document.getElementById("frames").textContent);
  var slider = document.getElementById("step"), shown = document.getElementById("shown");
  var play = document.getElementById("play"), total = shown.textContent.split(" of ")[1];
  var mountain = document.getElementById("mountain-plot");
  var calm = window.matchMedia("(prefers-reduced-motion: reduce)");
  var waiting = null;

  function figure(name) { return JSON.parse(document.getElementById(name).textContent); }

  function hasWebGL() {
    try { return !!document.createElement("canvas").getContext("webgl"); } catch (error) { return false; }
  }

  if (mountain && !hasWebGL()) {
    mountain.textContent = "This browser draws nothing in three dimensions (it has no WebGL); the level lines show the same.";
    mountain.style.height = "auto";
    mountain = null;
  }
  if (mountain) {
    var made = figure("mountain");
    if (window.matchMedia("(pointer: coarse)").matches) { made.layout.scene.dragmode = false; }
    Plotly.newPlot(mountain, made.data, made.layout, { responsive: true, displayModeBar: false });
  }

  var plots = [{ plot: document.querySelector('[data-figure="map"]'), data: figure("map").data }];
  if (mountain) { plots.push({ plot: mountain, data: figure("mountain").data }); }
  var way = document.querySelector('[data-figure="way"]');

  // A trace with steps is a path; the one after it is the mark at its end.
  function cut(entry, step) {
    var change = { x: [], y: [] }, places = [], deep = entry.plot === mountain;
    if (deep) { change.z = []; }
    entry.data.forEach(function (trace, i) {
      if (!trace.legendgroup || !trace.customdata) { return; }
      var count = trace.customdata.filter(function (at) { return at <= step; }).length;
      Object.keys(change).forEach(function (name) {
        change[name].push(trace[name].slice(0, count), trace[name].slice(count - 1, count));
      });
      places.push(i, i + 1);
    });
    if (places.length) { Plotly.restyle(entry.plot, change, places); }
  }

  function draw() {
    var step = frames[Number(slider.value)];
    plots.forEach(function (entry) { cut(entry, step); });
    Plotly.relayout(way, { "shapes[0].x0": step, "shapes[0].x1": step });
    shown.textContent = step + " of " + total;
    slider.setAttribute("aria-valuetext", "step " + step + " of " + total);
  }

  function stop() {
    window.clearTimeout(waiting);
    waiting = null;
    play.textContent = "Play";
  }

  function advance() {
    var last = frames.length - 1;
    var stride = Math.max(1, Math.ceil(last / (calm.matches ? 12 : 150)));
    slider.value = Math.min(last, Number(slider.value) + stride);
    draw();
    if (Number(slider.value) === last) { stop(); return; }
    waiting = window.setTimeout(advance, calm.matches ? 500 : 40);
  }

  play.addEventListener("click", function () {
    if (waiting !== null) { stop(); return; }
    if (Number(slider.value) === frames.length - 1) { slider.value = 0; }
    play.textContent = "Pause";
    draw();
    waiting = window.setTimeout(advance, 40);
  });
  slider.addEventListener("input", function () { stop(); draw(); });
  document.addEventListener("change", function (event) { // the other pictures listen themselves
    var name = event.target.dataset.show;
    if (!mountain || !name) { return; }
    var own = mountain.data.map(function (trace, i) { return trace.legendgroup === name ? i : -1; });
    Plotly.restyle(mountain, { visible: event.target.checked }, own.filter(function (i) { return i >= 0; }));
  });
  slider.setAttribute("aria-valuetext", "step " + frames[frames.length - 1] + " of " + total);
});
