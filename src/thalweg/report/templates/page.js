(function () {
  "use strict";
  var touch = window.matchMedia("(pointer: coarse)").matches;
  var plots = all(document, ".plot");

  function all(root, selector) { return Array.prototype.slice.call(root.querySelectorAll(selector)); }
  function scope(element) { return element.closest("[data-scope]") || document.body; }

  plots.forEach(function (plot) {
    var figure = JSON.parse(document.getElementById(plot.dataset.figure).textContent);
    if (touch) { figure.layout.dragmode = false; } // a finger on a figure scrolls the page
    plot.axes = figure.axes;
    Plotly.newPlot(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false });
  });

  function drawAlong(plot, kind) {
    var axis = plot.axes && plot.axes[kind];
    if (!axis) { return; }
    var xs = plot.data.map(function (trace) { return axis.x[trace.legendgroup]; });
    var layout = { "xaxis.title.text": axis.title, "xaxis.autorange": true };
    if (axis.type) { layout["xaxis.type"] = axis.type; }
    Plotly.update(plot, { x: xs }, layout);
  }

  function show(plot, name, visible) {
    var own = [];
    plot.data.forEach(function (trace, i) { if (trace.legendgroup === name) { own.push(i); } });
    if (own.length) { Plotly.restyle(plot, { visible: visible }, own); }
  }

  document.addEventListener("change", function (event) {
    var input = event.target, root = scope(input);
    var pictures = plots.filter(function (plot) { return scope(plot) === root; });
    if (input.type === "radio") {
      pictures.forEach(function (plot) { drawAlong(plot, input.value); });
    } else if (input.type === "checkbox") {
      all(root, "[data-show]").forEach(function (box) {
        if (scope(box) === root && box.dataset.show === input.dataset.show) { box.checked = input.checked; }
      });
      pictures.forEach(function (plot) { show(plot, input.dataset.show, input.checked); });
    }
  });

  function selectAll(element) {
    var range = document.createRange();
    range.selectNodeContents(element);
    window.getSelection().removeAllRanges();
    window.getSelection().addRange(range);
  }

  function copy(element) {
    if (navigator.clipboard) { return navigator.clipboard.writeText(element.textContent); }
    selectAll(element);
    return document.execCommand("copy") ? Promise.resolve() : Promise.reject(new Error("refused"));
  }

  document.addEventListener("click", function (event) {
    var button = event.target.closest(".copy");
    if (!button) { return; }
    var text = document.getElementById(button.dataset.copy), status = button.nextElementSibling;
    function say(words) {
      button.textContent = status.textContent = words;
      window.setTimeout(function () { button.textContent = "Copy"; status.textContent = ""; }, 4000);
    }
    copy(text).then(function () { say("Copied"); }, function () {
      selectAll(text);
      say("Press Ctrl+C"); // the browser does not let a page copy: what is to be copied is selected
    });
  });

  function reachByKeyboard() { // what scrolls sideways can be scrolled by keys, and nothing else takes a stop
    all(document, ".scroll").forEach(function (box) {
      if (box.scrollWidth > box.clientWidth) { box.tabIndex = 0; } else { box.removeAttribute("tabindex"); }
    });
  }
  reachByKeyboard();
  window.addEventListener("resize", reachByKeyboard);
  document.addEventListener("toggle", reachByKeyboard, true);

  // Fits A4 and Letter, one beside the other where they stand so on a screen.
  window.addEventListener("beforeprint", function () {
    plots.forEach(function (plot) { Plotly.relayout(plot, { width: plot.closest(".pictures") ? 320 : 660 }); });
  });
  window.addEventListener("afterprint", function () {
    plots.forEach(function (plot) { Plotly.relayout(plot, { width: null, autosize: true }); });
  });
})();
