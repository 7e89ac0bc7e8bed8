"use strict";
// Photos: their tiles, the walls that show them, and the dialog that shows one.

const data = JSON.parse(document.getElementById("data").textContent);
const images = data.images;
const byId = (id) => document.getElementById(id);
const percent = (value) => (value === null ? "" : `${(100 * value).toFixed(1)}%`);
const labelOf = (number) => (number < 0 ? "no label" : printable(data.labels[number]));

function printable(text) {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, (letter) => `\\u{${letter.codePointAt(0).toString(16)}}`);
}

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function source(at) {
  const number = images.thumbnail[at];
  return number < 0 ? null : `data:image/webp;base64,${data.thumbnails[number]}`;
}

function picture(at, alt) {
  const from = source(at);
  if (from === null) return element("span", { textContent: "no picture" });
  return element("img", { src: from, alt, decoding: "async" });
}

// A tile opens the dialog; the photos of its list are those that one can step through.
function tile(at, list, place) {
  const button = element("button", { type: "button", className: "photo", title: printable(images.path[at]) }, picture(at, described(at)));
  if (source(at) === null) button.setAttribute("aria-label", described(at));
  button.addEventListener("click", () => showPhoto(list, place, button));
  return button;
}

// Fill a place with tiles, some at a time; captions say what is special to each.
function fillWall(place, list, caption = says, step = 48) {
  const wall = element("ul", { className: "wall" });
  const more = element("button", { type: "button", className: "more" });
  let shown = 0;
  const add = () => {
    const first = shown;
    for (; shown < Math.min(first + step, list.length); shown++) {
      wall.append(element("li", {}, tile(list[shown], list, shown), element("p", { className: "says" }, ...caption(list[shown], shown))));
    }
    more.textContent = `Show more (${(list.length - shown).toLocaleString("en")} left)`;
    more.hidden = shown === list.length;
    if (first && first < shown) wall.children[first].querySelector("button").focus();
  };
  more.addEventListener("click", add);
  add();
  place.append(wall, more);
}

function showWall(place, title, list, caption) {
  place.replaceChildren(element("h3", { tabIndex: -1, textContent: `${title}: ${list.length.toLocaleString("en")} image${list.length === 1 ? "" : "s"}` }));
  fillWall(place, list, caption);
}

const dialog = byId("photo");
let open = { list: [], place: 0, from: null };

function showPhoto(list, place, from) {
  open = { list, place, from: from || open.from };
  const at = list[place];
  byId("photo-title").textContent = printable(images.path[at]);
  dialog.querySelector(".picture").replaceChildren(picture(at, described(at)));
  const facts = [
    ...factsOf(at),
    ["Split", data.splits[images.split[at]] + (images.fitted[at] ? ", the head was fitted on it" : "")],
    ...suspicionsOf(at),
  ];
  const outlier = outliers.get(at);
  if (outlier) facts.push(["Nearest in training", element("span", {}, printable(images.path[outlier.nearest]), picture(outlier.nearest, described(outlier.nearest)))]);
  dialog.querySelector("dl").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", {}, value)]));
  byId("photo-place").textContent = `${(place + 1).toLocaleString("en")} of ${list.length.toLocaleString("en")}`;
  byId("photo-back").disabled = place === 0;
  byId("photo-next").disabled = place === list.length - 1;
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const place = open.place + by;
  if (place >= 0 && place < open.list.length) showPhoto(open.list, place);
}

byId("photo-back").addEventListener("click", () => step(-1));
byId("photo-next").addEventListener("click", () => step(1));
byId("photo-close").addEventListener("click", () => dialog.close());
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
dialog.addEventListener("close", () => open.from && open.from.focus());
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});

const outliers = new Map(data.outliers.map(([at, similarity, nearest]) => [at, { similarity, nearest }]));

const captions = {
  mistakes: says,
  suspects: suspectSays,
  outliers: (at) => {
    const one = outliers.get(at);
    return [
      element("b", { textContent: labelText(at) }),
      element("span", { textContent: `similarity ${one.similarity.toFixed(2)} to ${labelText(one.nearest)}` }),
    ];
  },
};
const lists = { mistakes: data.mistakes, suspects: data.suspects.map(([at]) => at), outliers: [...outliers.keys()] };

for (const place of document.querySelectorAll("[data-list]")) {
  const name = place.dataset.list;
  if (lists[name].length) fillWall(place, lists[name], captions[name], 24);
}

for (const place of document.querySelectorAll("[data-groups]")) {
  data.groups.forEach((group, number) => {
    const list = group.images.map(([at]) => at);
    const marks = group.marks.map((text) => element("span", { className: text === "identical files" ? "mark" : "mark alarm", textContent: text }));
    const row = element("div", { className: "group" }, element("h3", {}, `Group ${number + 1}`, ...marks));
    const side = element("div", { className: "wall-side" });
    fillWall(side, list, (at, order) => [
      element("b", { textContent: labelText(at) }),
      element("span", { textContent: `${data.splits[images.split[at]]}, similarity ${group.images[order][1].toFixed(2)}` }),
    ], 12);
    row.append(side);
    place.append(row);
  });
}
