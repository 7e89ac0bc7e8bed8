// The map of all images: points on a canvas, and what is under the pointer or in the lasso.

const frame = byId("map-frame");
const canvas = byId("map-canvas");
const over = byId("map-over");
const tip = byId("map-tip");
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const SIZE = 4096;
const view = { x: 0, y: 0, scale: 1, width: 1, height: 1 };
let isLasso = false;
let here = -1;
let hidden = new Set();
let shown = [];
let groups = [];
let cells = new Map();
let waiting = 0;

// Okabe and Ito's colours, which nearly everyone can tell apart; then hues by the golden angle.
const KNOWN = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#b8a600", "#7b5cd6", "#8a6d4b", "#6b7480"];
const colour = (number) => KNOWN[number] || `hsl(${(number * 137.5) % 360} 60% ${dark.matches ? 62 : 45}%)`;

colourings.split = { names: data.splits, of: (at) => images.split[at] };
const fillOf = (name, number) => (name === "right" ? ["#0072b2", "#d55e00", "#6b7480"][number] : colour(number));
const filters = { all: () => true, scored: (at) => images.scored[at], wrong: isWrong };

// What is shown changes: group it by colour, and by cells to find what is under the pointer.
function arrange() {
  const name = byId("map-colour").value;
  const { of } = colourings[name];
  const keep = filters[byId("map-filter").value];
  const byColour = new Map();
  shown = [];
  cells = new Map();
  for (const at of numbers) {
    const group = of(at);
    if (hidden.has(group) || !keep(at)) continue;
    shown.push(at);
    if (!byColour.has(group)) byColour.set(group, []);
    byColour.get(group).push(at);
    const cell = (images.x[at] >> 6) * 64 + (images.y[at] >> 6);
    if (!cells.has(cell)) cells.set(cell, []);
    cells.get(cell).push(at);
  }
  // The rarest on top.
  groups = [...byColour].sort((a, b) => b[1].length - a[1].length).map(([group, list]) => ({ fill: fillOf(name, group), list }));
  here = -1;
  tip.hidden = true;
  painted = null;
  later();
}

function legend() {
  const name = byId("map-colour").value;
  const { names, of } = colourings[name];
  const counts = new Array(names.length).fill(0);
  for (const at of numbers) counts[of(at)]++;
  hidden = new Set();
  const buttons = names.map((text, number) => {
    const button = element("button", { type: "button", "aria-pressed": "true" });
    const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const circle = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [key, value] of Object.entries({ cx: 6, cy: 6, r: 6, fill: fillOf(name, number) })) circle.setAttribute(key, value);
    swatch.setAttribute("viewBox", "0 0 12 12");
    swatch.setAttribute("aria-hidden", "true");
    swatch.append(circle);
    button.append(swatch, `${text} (${counts[number].toLocaleString("en")})`);
    button.addEventListener("click", () => {
      const isOn = button.getAttribute("aria-pressed") === "true";
      button.setAttribute("aria-pressed", String(!isOn));
      if (isOn) hidden.add(number);
      else hidden.delete(number);
      arrange();
    });
    return [counts[number], button];
  });
  byId("map-legend").replaceChildren(...buttons.filter(([count]) => count).map(([, button]) => button));
}

function fit() {
  const room = Math.min(view.width, view.height) * 0.94;
  view.scale = room / SIZE;
  view.x = (view.width - SIZE * view.scale) / 2;
  view.y = (view.height - SIZE * view.scale) / 2;
  // As wide as the frame allows.
  view.stretch = Math.min(2, (view.width * 0.94) / room);
  view.x = (view.width - SIZE * view.scale * view.stretch) / 2;
  later();
}

const across = (at) => view.x + images.x[at] * view.scale * view.stretch;
const down = (at) => view.y + images.y[at] * view.scale;

function later() {
  if (!waiting) waiting = requestAnimationFrame(draw);
}

function drawOver() {
  const ratio = window.devicePixelRatio || 1;
  const pen = over.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, view.width, view.height);
  pen.strokeStyle = dark.matches ? "#ffffff" : "#111111";
  pen.lineWidth = 2;
  if (here >= 0) {
    pen.beginPath();
    pen.arc(across(here), down(here), dotRadius() + 3, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (lasso.length > 1) {
    pen.beginPath();
    lasso.forEach(([x, y], number) => (number ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.fillStyle = dark.matches ? "rgba(255,255,255,.12)" : "rgba(0,0,0,.08)";
    pen.fill();
    pen.setLineDash([5, 4]);
    pen.stroke();
    pen.setLineDash([]);
  }
}

function nearest(x, y) {
  const reach = Math.max(10, dotRadius() + 4);
  const unitsX = reach / (view.scale * view.stretch);
  const unitsY = reach / view.scale;
  const atX = (x - view.x) / (view.scale * view.stretch);
  const atY = (y - view.y) / view.scale;
  let best = -1;
  let least = reach * reach;
  const low = (value) => Math.max(0, Math.floor(value) >> 6);
  const high = (value) => Math.min(63, Math.floor(value) >> 6);
  for (let column = low(atX - unitsX); column <= high(atX + unitsX); column++) {
    for (let row = low(atY - unitsY); row <= high(atY + unitsY); row++) {
      for (const at of cells.get(column * 64 + row) || []) {
        const distance = (across(at) - x) ** 2 + (down(at) - y) ** 2;
        if (distance < least) {
          least = distance;
          best = at;
        }
      }
    }
  }
  return best;
}

function point(at) {
  if (at === here) return;
  here = at;
  tip.hidden = at < 0;
  if (at >= 0) {
    tip.replaceChildren(picture(at, ""), element("p", { className: "says" }, ...says(at), element("span", { textContent: printable(images.path[at]) })));
    const x = across(at);
    const y = down(at);
    tip.style.left = `${Math.max(4, Math.min(view.width - tip.offsetWidth - 4, x + 16))}px`;
    tip.style.top = `${Math.max(4, y + 16 + tip.offsetHeight > view.height ? y - tip.offsetHeight - 16 : y + 16)}px`;
  }
  drawOver();
}

function zoom(by, x = view.width / 2, y = view.height / 2) {
  const least = (0.5 * Math.min(view.width, view.height)) / SIZE;
  const to = Math.max(least, Math.min(least * 400, view.scale * by));
  const real = to / view.scale;
  view.x = x - (x - view.x) * real;
  view.y = y - (y - view.y) * real;
  view.scale = to;
  later();
}

const pointers = new Map();
let lasso = [];
let moved = 0;

const place = (event) => {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
};

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, place(event));
  moved = 0;
  point(-1);
  lasso = (isLasso || event.shiftKey) && pointers.size === 1 ? [place(event)] : [];
});

canvas.addEventListener("pointermove", (event) => {
  const [x, y] = place(event);
  const before = pointers.get(event.pointerId);
  if (!before) {
    point(nearest(x, y));
    return;
  }
  moved += Math.hypot(x - before[0], y - before[1]);
  if (pointers.size === 2) {
    const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, where]) => where);
    zoom(Math.hypot(x - other[0], y - other[1]) / (Math.hypot(before[0] - other[0], before[1] - other[1]) || 1), (x + other[0]) / 2, (y + other[1]) / 2);
  } else if (lasso.length) {
    lasso.push([x, y]);
    drawOver();
  } else {
    view.x += x - before[0];
    view.y += y - before[1];
    later();
  }
  pointers.set(event.pointerId, [x, y]);
});

function release(event) {
  const [x, y] = place(event);
  pointers.delete(event.pointerId);
  if (lasso.length > 2 && moved > 12) select();
  else if (moved < 6 && event.type === "pointerup") {
    const at = nearest(x, y);
    point(at);
    if (at >= 0) showPhoto([at], 0, canvas);
  }
  lasso = [];
  drawOver();
}

canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", () => point(-1));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), ...place(event));
}, { passive: false });

// Ray casting: how many edges lie to the right of a point.
function isInside(x, y, ring) {
  let inside = false;
  for (let i = 0, j = ring.length - 1; i < ring.length; j = i++) {
    const [x1, y1] = ring[i];
    const [x2, y2] = ring[j];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}

function select() {
  listPhotos("In the lasso", shown.filter((at) => isInside(across(at), down(at), lasso)));
}

function listPhotos(title, list) {
  const counts = new Map();
  for (const at of list) counts.set(labelText(at), (counts.get(labelText(at)) || 0) + 1);
  const most = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 6).map(([text, count]) => `${text} ${count.toLocaleString("en")}`);
  showWall(byId("map-photos"), title, list);
  if (list.length) byId("map-photos").firstChild.append(element("small", { textContent: ` — ${most.join(", ")}` }));
}

// From image to image in the direction of an arrow key.
function walk(dx, dy) {
  const start = here < 0 ? [view.width / 2, view.height / 2] : [across(here), down(here)];
  let best = -1;
  let least = Infinity;
  for (const at of shown) {
    const x = across(at) - start[0];
    const y = down(at) - start[1];
    const along = x * dx + y * dy;
    const aside = Math.abs(x * dy - y * dx);
    if (at !== here && (here < 0 || along > Math.max(1, aside)) && along ** 2 + 4 * aside ** 2 < least) {
      least = along ** 2 + 4 * aside ** 2;
      best = at;
    }
  }
  if (best < 0) return;
  const [x, y] = [across(best), down(best)];
  if (x < 0 || y < 0 || x > view.width || y > view.height) {
    view.x += view.width / 2 - x;
    view.y += view.height / 2 - y;
    later();
  }
  point(best);
  byId("map-said").textContent = described(best);
}

canvas.addEventListener("keydown", (event) => {
  const keys = {
    ArrowLeft: () => walk(-1, 0), ArrowRight: () => walk(1, 0), ArrowUp: () => walk(0, -1), ArrowDown: () => walk(0, 1),
    "+": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: fit,
    Enter: () => here >= 0 && showPhoto([here], 0, canvas),
    Escape: () => point(-1),
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});

function choose(lassoing) {
  isLasso = lassoing;
  byId("map-lasso").setAttribute("aria-pressed", String(lassoing));
  byId("map-move").setAttribute("aria-pressed", String(!lassoing));
  canvas.classList.toggle("lasso", lassoing);
}

byId("map-move").addEventListener("click", () => choose(false));
byId("map-lasso").addEventListener("click", () => choose(true));
byId("map-in").addEventListener("click", () => zoom(1.4));
byId("map-out").addEventListener("click", () => zoom(1 / 1.4));
byId("map-reset").addEventListener("click", fit);
byId("map-list").addEventListener("click", () => listPhotos("On the map", shown));
byId("map-colour").addEventListener("change", () => { legend(); arrange(); });
byId("map-filter").addEventListener("change", arrange);
dark.addEventListener("change", () => { legend(); arrange(); });

new ResizeObserver(() => {
  const ratio = window.devicePixelRatio || 1;
  view.width = frame.clientWidth;
  view.height = frame.clientHeight;
  for (const one of [canvas, over]) {
    one.width = Math.round(view.width * ratio);
    one.height = Math.round(view.height * ratio);
  }
  painted = null;
  fit();
}).observe(frame);
legend();
arrange();
