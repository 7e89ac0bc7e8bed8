// The points of the map, painted on a sheet that is moved and stretched with it.

const MARGIN = 0.25;
const REST_MS = 120;
// What was painted last, with a margin on each side, and the view it was painted for.
const sheet = document.createElement("canvas");
let painted = null;
let resting = 0;

// The pixels of a dot around its middle, how far each is covered, and how much of that is not the rim: 0 to 256.
function dotPixels(radius, ratio) {
  const inner = radius * ratio;
  const outer = inner + (radius > 2.5 ? 0.8 * ratio : 0);
  const reach = Math.ceil(outer);
  const pixels = { reach, x: [], y: [], covered: [], filled: [] };
  for (let y = -reach; y <= reach; y++) {
    for (let x = -reach; x <= reach; x++) {
      const distance = Math.hypot(x, y);
      const covered = Math.min(1, outer + 0.5 - distance);
      if (covered <= 0) continue;
      pixels.x.push(x);
      pixels.y.push(y);
      pixels.covered.push(Math.round(256 * covered));
      pixels.filled.push(outer > inner ? Math.round(256 * Math.max(0, Math.min(1, inner + 0.5 - distance))) : 256);
    }
  }
  return pixels;
}

// A colour that CSS knows as a pixel, in the order of bytes that canvases have: red lowest.
function pixelOf(fill, pen) {
  pen.fillStyle = fill;
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(pen.fillStyle.slice(at, at + 2), 16));
  return (0xff000000 | (blue << 16) | (green << 8) | red) >>> 0;
}

function mixed(above, below, share) {
  if (!(below >>> 24)) return ((above & 0xffffff) | (Math.min(255, share) << 24)) >>> 0;
  const odd = (((above & 0xff00ff) * share + (below & 0xff00ff) * (256 - share)) >>> 8) & 0xff00ff;
  const even = (((above & 0xff00) * share + (below & 0xff00) * (256 - share)) >>> 8) & 0xff00;
  return ((below & 0xff000000) | odd | even) >>> 0;
}

// Pixels are set one by one: that many copies of a picture take far longer where there is no graphics card.
function paint(target, list, pixels, fill, rim, ratio) {
  const { width, height } = target;
  const words = new Uint32Array(target.data.buffer);
  const { reach, x, y, covered, filled } = pixels;
  const colours = Uint32Array.from(filled, (share) => (share >= 256 ? fill : mixed(fill, rim, share)));
  const offsets = Int32Array.from(x, (dx, at) => y[at] * width + dx);
  const [scaleX, scaleY] = [view.scale * view.stretch * ratio, view.scale * ratio];
  const [startX, startY] = [view.x * ratio + (width - canvas.width) / 2, view.y * ratio + (height - canvas.height) / 2];
  for (let number = 0; number < list.length; number++) {
    const left = Math.round(startX + images.x[list[number]] * scaleX);
    const top = Math.round(startY + images.y[list[number]] * scaleY);
    if (left < reach || top < reach || left >= width - reach || top >= height - reach) continue;
    const middle = top * width + left;
    for (let at = 0; at < offsets.length; at++) {
      const place = middle + offsets[at];
      words[place] = covered[at] >= 256 ? colours[at] : mixed(colours[at], words[place], covered[at]);
    }
  }
}

function dotRadius() {
  const zoom = (view.scale * SIZE) / Math.min(view.width, view.height);
  const base = Math.max(1.3, Math.min(5, 260 / Math.sqrt(shown.length + 1)));
  return Math.min(9, base * Math.sqrt(Math.max(1, zoom)));
}

function paintSheet(ratio) {
  for (const side of ["width", "height"]) sheet[side] = canvas[side] + 2 * Math.round(MARGIN * canvas[side]);
  const pen = sheet.getContext("2d");
  const target = pen.createImageData(sheet.width, sheet.height);
  const pixels = dotPixels(dotRadius(), ratio);
  const rim = pixelOf(dark.matches ? "#1a1f26" : "#ffffff", pen);
  for (const { fill, list } of groups) paint(target, list, pixels, pixelOf(fill, pen), rim, ratio);
  pen.putImageData(target, 0, 0);
  painted = { ...view };
}

// Where the sheet lies on the canvas, and whether nothing is lacking on it.
function placed(ratio) {
  const by = view.scale / painted.scale;
  const at = (axis, side) => view[axis] * ratio - (painted[axis] * ratio + (sheet[side] - canvas[side]) / 2) * by;
  const found = { by, x: at("x", "width"), y: at("y", "height"), width: sheet.width * by, height: sheet.height * by };
  const room = dotRadius() + 1;
  const isWhole = [["x", "width", painted.stretch], ["y", "height", 1]].every(([axis, side, stretch]) => {
    const beyond = (sheet[side] - canvas[side]) / (2 * ratio) - room;
    return painted[axis] >= -beyond && painted[axis] + SIZE * painted.scale * stretch <= painted[side] + beyond;
  });
  const isCovered = found.x <= 0 && found.y <= 0 && found.x + found.width >= canvas.width && found.y + found.height >= canvas.height;
  return { ...found, isEnough: by > 0.5 && by < 2 && (isWhole || isCovered) };
}

// Painting all points takes longer than a frame where they are many: until the map rests, the last picture is moved and stretched.
function draw() {
  waiting = 0;
  const ratio = window.devicePixelRatio || 1;
  if (!canvas.width || !canvas.height) return;
  clearTimeout(resting);
  if (!painted || !placed(ratio).isEnough) paintSheet(ratio);
  const { by, x, y, width, height } = placed(ratio);
  if (by !== 1) resting = setTimeout(() => { painted = null; later(); }, REST_MS);
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(sheet, Math.round(x), Math.round(y), width, height);
  drawOver();
}
