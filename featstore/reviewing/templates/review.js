const NAMES = { all: "All", suspect: "Suspects", duplicate: "Duplicates", unlabelled: "To label", unsure: "Unsure", outlier: "Unlike all", decided: "Decided" };
const MOST_BUTTONS = 30;
const AHEAD = 4;

let queue = { items: [], classes: [], decisions: {}, decided: [] };
let shown = [];
let place = 0;
let kind = "all";
// The image whose photo is on the screen, or that has none: only then there is something to decide on.
let seen = null;
let isBusy = false;
let newLabel = null;
let classOfKey = new Map();
const photos = new Map();

const here = () => shown[place];
const decisionOf = (item) => queue.decisions[item.hash];

async function ask(path, body) {
  const headers = byId("token") ? { Authorization: `Bearer ${byId("token").value}` } : {};
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { ...headers, "Content-Type": "application/json" } } : { headers };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The server does not answer. Nothing was recorded; start it again and reload this page.");
  }
  if (!response.ok) throw new Error((await response.json()).error);
  return response;
}

// A photo as the address of a blob, asked for once; the last few are kept.
function photo(hash) {
  if (!photos.has(hash)) {
    photos.set(hash, ask(`photos/${hash}`).then((response) => response.blob()).then((blob) => URL.createObjectURL(blob)));
    photos.get(hash).catch(() => {});
    for (const old of photos.keys()) {
      if (photos.size <= 5 * AHEAD) break;
      photos.get(old).then(URL.revokeObjectURL, () => {});
      photos.delete(old);
    }
  }
  return photos.get(hash);
}

async function picture(hash, alt) {
  try {
    const image = element("img", { src: await photo(hash), alt });
    await image.decode();
    return image;
  } catch (error) {
    return element("p", { className: "bad", textContent: error.name === "EncodingError" ? "The photo cannot be shown." : error.message });
  }
}

function reasons(item) {
  const label = item.labels[0];
  const own = item.pLabel === null ? "" : `, ${label} ${percent(item.pLabel)}`;
  const says = {
    suspect: `Heads that were not fitted on it say ${item.suggested} ${percent(item.p)}${own}`,
    duplicate: item.other ? `Nearly the same as an image labelled ${item.other.label || "nothing"}` : "Copies of this file have different labels",
    unlabelled: "Worth a label: the head would learn from it",
    unsure: item.kinds.includes("suspect") ? "The head itself is unsure" : `The head is unsure: ${item.suggested} ${percent(item.p)}${own}`,
    outlier: "Unlike all training images",
  };
  return [...item.kinds.map((one) => says[one]), ...(item.split ? [`Split: ${item.split}`] : [])];
}

function told({ decision, new: label }) {
  return { accept: `The label ${label} is right`, relabel: `It is ${label}`, exclude: "Left out", duplicate: "A duplicate of another image" }[decision];
}

// What can be decided on the image that is seen.
function allowed() {
  const item = here();
  const ready = Boolean(item) && seen === item.hash && !isBusy;
  byId("accept").disabled = !ready || item.labels.length !== 1;
  byId("suggest").disabled = !ready || !item.suggested || (item.labels.length === 1 && item.labels[0] === item.suggested);
  byId("exclude").disabled = !ready;
  byId("duplicate").disabled = !ready || !item.other;
  byId("relabel").disabled = !ready;
  for (const button of byId("classes").children) button.disabled = !ready;
  byId("undo").disabled = isBusy || !queue.decided.length;
  byId("back").disabled = place === 0;
  byId("skip").disabled = place >= shown.length;
}

function show() {
  const item = here();
  seen = null;
  newLabel = null;
  byId("label").value = "";
  byId("relabel").textContent = "Relabel";
  const n = queue.items.filter(decisionOf).length;
  byId("progress").textContent = `${n.toLocaleString("en")} of ${queue.items.length.toLocaleString("en")} decided.`;
  byId("place").textContent = item ? `${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}` : "";
  byId("path").textContent = item ? item.path : "";
  byId("reasons").replaceChildren(...(item ? reasons(item) : []).map((text) => element("li", { textContent: text })));
  byId("other").hidden = !item || !item.other;
  byId("decision").hidden = !item || !decisionOf(item);
  allowed();
  if (!item) {
    byId("title").textContent = shown.length ? "That was the last one here" : "Nothing to look at here";
    byId("picture").replaceChildren(element("p", { className: "quiet", textContent: "Choose another list above, or stop the server: all decisions are written." }));
    return;
  }
  byId("title").replaceChildren(...(item.labels.length ? ["Labelled ", element("b", { textContent: item.labels.join(", ") })] : ["No label"]));
  byId("suggestion").textContent = item.suggested ? `It is ${item.suggested}` : "No suggestion";
  if (decisionOf(item)) byId("decision").textContent = `Decided: ${told(decisionOf(item))}`;
  const { hash, other } = item;
  if (!photos.has(hash)) byId("picture").replaceChildren(element("p", { className: "quiet", textContent: "Loading …" }));
  picture(hash, `${item.path}, ${item.labels.length ? `labelled ${item.labels.join(", ")}` : "no label"}`).then((image) => {
    if (here() !== item) return;
    byId("picture").replaceChildren(image);
    seen = hash;
    allowed();
    for (const next of shown.slice(place + 1, place + 1 + AHEAD)) photo(next.hash);
  });
  if (!other) return;
  byId("other-says").textContent = `The other image: ${other.label || "no label"}${other.similarity === null ? "" : `, similarity ${other.similarity.toFixed(2)}`}: ${other.path}`;
  byId("other-picture").replaceChildren();
  picture(other.hash, `The other image, ${other.label ? `labelled ${other.label}` : "without label"}`).then((image) => {
    if (here() === item) byId("other-picture").replaceChildren(image);
  });
}

function go(to) {
  place = Math.max(0, Math.min(shown.length, to));
  show();
}

const isIn = (item, name) => name === "all" || (name === "decided" ? Boolean(decisionOf(item)) : item.kinds.includes(name));

function choose(name) {
  kind = name;
  shown = queue.items.filter((item) => isIn(item, name));
  const first = shown.findIndex((item) => !decisionOf(item));
  listKinds();
  go(name === "decided" || first < 0 ? 0 : first);
}

function listKinds() {
  byId("kinds").replaceChildren(...Object.entries(NAMES).map(([name, text]) => {
    const count = queue.items.filter((item) => isIn(item, name)).length;
    const button = element("button", { type: "button", textContent: `${text} (${count.toLocaleString("en")})`, "aria-pressed": String(name === kind), hidden: !count && name !== "all" });
    button.addEventListener("click", () => choose(name));
    return button;
  }));
}

// A class called 7 has the key 7; others have what is left of 1 to 9, in order.
function keysOfClasses(labels) {
  const keys = new Map(labels.filter((label) => /^[0-9]$/.test(label)).map((label) => [label, label]));
  const left = [..."123456789"].filter((key) => !keys.has(key));
  for (const label of labels) if (!keys.has(label) && left.length) keys.set(label, left.shift());
  return keys;
}

function listClasses() {
  byId("labels").replaceChildren(...queue.classes.map((label) => element("option", { value: label })));
  const few = queue.classes.length <= MOST_BUTTONS ? queue.classes : [];
  const keys = keysOfClasses(few);
  classOfKey = new Map([...keys].map(([label, key]) => [key, label]));
  byId("classes").replaceChildren(...few.map((label) => {
    const key = keys.get(label);
    const button = element("button", { type: "button" }, ...(key && key !== label ? [element("kbd", { textContent: key }), " "] : []), label);
    button.addEventListener("click", () => decide("relabel", label));
    return button;
  }));
  byId("classes-title").hidden = !few.length;
}

// One request after another: a decision is shown once it is written.
async function record(work) {
  if (isBusy) return;
  isBusy = true;
  allowed();
  try {
    await work();
  } catch (error) {
    say(error.message, true);
  } finally {
    isBusy = false;
    allowed();
  }
}

function decide(decision, label = "") {
  const item = here();
  if (!item || seen !== item.hash) return;
  if (decision === "relabel" && item.labels.length === 1 && item.labels[0] === label) decision = "accept";
  record(async () => {
    const response = await ask("decisions", { content_hash: item.hash, decision, new: label });
    queue.decisions[item.hash] = await response.json();
    queue.decided = [...queue.decided.filter((hash) => hash !== item.hash), item.hash];
    if (label && decision === "relabel" && !queue.classes.includes(label)) {
      queue.classes = [...queue.classes, label].sort();
      listClasses();
    }
    say(`${told(queue.decisions[item.hash])}: ${item.path}`);
    listKinds();
    if (here() === item) go(place + 1);
  });
}

function undo() {
  const hash = queue.decided.at(-1);
  if (!hash) return;
  record(async () => {
    const before = await (await ask("undo", { content_hash: hash })).json();
    queue.decided = queue.decided.filter((one) => one !== hash);
    delete queue.decisions[hash];
    if (before) {
      queue.decisions[hash] = before;
      queue.decided.push(hash);
    }
    const item = queue.items.find((one) => one.hash === hash);
    say(`Undone: ${item.path}`);
    if (!shown.includes(item)) shown = queue.items.filter((one) => isIn(one, (kind = "all")));
    listKinds();
    go(shown.indexOf(item));
  });
}

const actions = {
  a: () => !byId("accept").disabled && decide("accept"),
  s: () => !byId("suggest").disabled && decide("relabel", here().suggested),
  x: () => !byId("exclude").disabled && decide("exclude"),
  d: () => !byId("duplicate").disabled && decide("duplicate", here().other.hash),
  u: () => !byId("undo").disabled && undo(),
  "/": () => byId("label").focus(),
  ArrowLeft: () => go(place - 1),
  ArrowRight: () => go(place + 1),
};
for (const [id, key] of Object.entries({ accept: "a", suggest: "s", exclude: "x", duplicate: "d", undo: "u", back: "ArrowLeft", skip: "ArrowRight" })) {
  byId(id).addEventListener("click", () => actions[key]());
}
document.addEventListener("keydown", (event) => {
  if (event.target.id === "label" && event.key === "Escape") event.target.blur();
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.tagName === "INPUT" || byId("desk").hidden) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = actions[key] || (classOfKey.has(key) && (() => decide("relabel", classOfKey.get(key))));
  if (!act) return;
  event.preventDefault();
  act();
});
byId("other-label").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = byId("label").value.trim().normalize("NFC");
  if (!label || byId("relabel").disabled) return;
  if (!queue.classes.includes(label) && newLabel !== label) {
    newLabel = label;
    byId("relabel").textContent = "Add this label";
    say(`No image is called ${label} so far. Press Enter again to add this label.`);
    return;
  }
  byId("label").blur();
  decide("relabel", label);
});

async function load() {
  try {
    queue = await (await ask("queue")).json();
  } catch (error) {
    say(error.message, true);
    return;
  }
  say("");
  byId("file").textContent = `Decisions go to ${queue.file}.`;
  byId("kinds").hidden = byId("desk").hidden = false;
  if (byId("token-form")) byId("token-form").hidden = true;
  listClasses();
  choose("all");
}

if (byId("token-form")) {
  byId("progress").textContent = "This server needs its token.";
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
} else load();
