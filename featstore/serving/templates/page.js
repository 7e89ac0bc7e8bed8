const data = JSON.parse(document.getElementById("data").textContent);
const chosen = () => data.models[byId("model") ? Number(byId("model").value) : 0];

function bar({ label, probability }, from) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 8");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const rect = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  for (const [key, value] of Object.entries({ width: 100 * probability, height: 8 })) rect.setAttribute(key, value);
  svg.append(rect);
  if (from !== undefined) {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [key, value] of Object.entries({ x: Math.min(100 * from, 99), width: 1, height: 8, class: "from" })) line.setAttribute(key, value);
    svg.append(line);
  }
  const title = from === undefined ? label : `${label}: given from ${percent(from)} on`;
  return element("li", { className: probability >= from ? "given" : "" }, element("span", { textContent: label, title }), svg, element("span", { textContent: percent(probability) }));
}

function neighbor({ label, similarity, picture }) {
  const shown = picture ? element("img", { src: picture, alt: `Training photo labelled ${label}` }) : element("span", { className: "none" });
  return element("li", {}, shown, element("p", {}, label, element("span", { textContent: `similarity ${similarity.toFixed(2)}` })));
}

// Of a model that gives several labels, also those that are given beyond the most probable few.
function ranked(answer) {
  const listed = new Set(answer.top.map(({ label }) => label));
  const more = (answer.labels || []).filter(({ label }) => !listed.has(label));
  return [...answer.top, ...more].sort((one, other) => other.probability - one.probability);
}

function told(answer, model) {
  if (answer.labels) return answer.labels.map(({ label }) => label).join(", ") || "None of the labels";
  return answer.rejected ? `Unknown: no class reaches ${percent(model.rejects_below)}` : answer.label;
}

function result(file, answer, model) {
  const url = URL.createObjectURL(file);
  const own = element("img", { src: url, alt: answer.file || "your photo" });
  own.addEventListener("load", () => URL.revokeObjectURL(url));
  // What this browser cannot show, the server may have read all the same.
  own.addEventListener("error", () => own.remove());
  const pictures = element("div", { className: "pictures" }, element("figure", {}, own, element("figcaption", { textContent: answer.file || "your photo" })));
  const said = element("div", {});
  if (answer.error) {
    said.append(element("p", { className: "bad", textContent: answer.error }));
  } else {
    pictures.append(element("figure", { className: "seen" }, element("img", { src: answer.seen, alt: "The picture as the network got it" }), element("figcaption", { textContent: `as the network saw it: ${model.size_px[1]} × ${model.size_px[0]} pixels, ${model.resize}` })));
    const bars = ranked(answer).map((one) => bar(one, model.thresholds && model.thresholds[one.label]));
    said.append(element("p", { className: "answer", textContent: told(answer, model) }), element("ul", { className: "bars" }, ...bars));
    if (model.thresholds) said.append(element("p", { className: "quiet", textContent: "A label is given from the line in its bar on." }));
    if (answer.neighbors.length) said.append(element("h3", { textContent: "The training photos most like it" }), element("ul", { className: "near" }, ...answer.neighbors.map(neighbor)));
  }
  return element("article", { className: "result" }, pictures, said);
}

async function send(files) {
  const images = [...files].slice(0, data.mostImages);
  if (!images.length) return say("There is no photo in that.", true);
  // Another one may be chosen before the answer is there.
  const model = chosen();
  say(`Looking at ${images.length} photo${images.length === 1 ? "" : "s"} …`);
  const form = new FormData();
  for (const file of images) form.append("files", file, file.name || "photo");
  const headers = byId("token") ? { Authorization: `Bearer ${byId("token").value}` } : {};
  try {
    const response = await fetch(`predict?detail=1&top=5&model=${encodeURIComponent(model.name)}`, { method: "POST", body: form, headers });
    const answer = await response.json();
    if (!answer.predictions) throw new Error(answer.error);
    byId("results").prepend(...answer.predictions.map((one, at) => result(images[at], one, model)));
    const left = files.length - images.length;
    say(`${images.length} done${left ? `; ${left} more than this server takes at once are left out` : ""}.`, left > 0);
  } catch (error) {
    say(String(error.message || error), true);
  }
  return undefined;
}

byId("files").addEventListener("change", (event) => {
  send(event.target.files).finally(() => { event.target.value = ""; });
});
byId("files").addEventListener("focus", () => document.querySelector(".button").classList.add("focus"));
byId("files").addEventListener("blur", () => document.querySelector(".button").classList.remove("focus"));
document.addEventListener("paste", (event) => event.clipboardData.files.length && send(event.clipboardData.files));
for (const type of ["dragenter", "dragover"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    byId("drop").classList.add("over");
  });
}
document.addEventListener("dragleave", () => byId("drop").classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  byId("drop").classList.remove("over");
  send(event.dataTransfer.files);
});

let stream = null;
function closeCamera() {
  if (stream) for (const track of stream.getTracks()) track.stop();
  stream = null;
  byId("shoot").disabled = true;
  byId("camera-view").hidden = true;
}
byId("camera").addEventListener("click", async () => {
  if (stream) return;
  const video = byId("video");
  byId("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    video.srcObject = stream;
    byId("camera-view").hidden = false;
    await video.play();
    // Before its first frame there is no picture to take.
    byId("shoot").disabled = false;
    byId("shoot").focus();
  } catch (error) {
    const closed = error.name === "AbortError" && !stream;
    closeCamera();
    if (!closed) say(navigator.mediaDevices ? `The camera cannot be used: ${error.message}` : "Browsers give the camera to pages on this machine or over HTTPS alone.", true);
  } finally {
    byId("camera").disabled = false;
  }
});
byId("camera-off").addEventListener("click", closeCamera);
byId("shoot").addEventListener("click", () => {
  const video = byId("video");
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob((blob) => {
    if (blob) send([new File([blob], "camera.jpg", { type: "image/jpeg" })]);
    else say("The camera gives no picture.", true);
  }, "image/jpeg", 0.92);
});
